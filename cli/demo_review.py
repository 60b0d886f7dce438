"""What a manager reads of a suggestion before deciding, and the approval by its hash; all of it over HTTP."""

from collections.abc import Callable, Iterator

import httpx
import msgspec

from cli.demo_server import ok
from domain.fields import JsonObject
from domain.suggestions import Approval, Suggestion
from domain.text_forms import shown

QUOTES = 2  # of each suggestion


def review(manager: httpx.Client, say: Callable[[str], None], *, prompt: str) -> Approval | None:
    """Read the oldest suggestion that waits, and approve it; None where none does."""
    asked = manager.get("/suggestions", params={"status": "pending", "prompt": prompt})
    pending = msgspec.json.decode(ok(asked), type=list[Suggestion])
    if not pending:
        say("no suggestion waits, so the story ends here: give it more --calls")
        return None
    suggestion = pending[-1]
    say(f"\n3. The manager reads suggestion {suggestion.id}, {shown(suggestion.title)}")
    for line in lines_of(suggestion):
        say(f"   {line}")
    body = {"text_hash": suggestion.text_hash}
    answer = ok(manager.post(f"/suggestions/{suggestion.id}/approve", json=body))
    approval = msgspec.json.decode(answer, type=Approval)
    say(f"approved by its hash {suggestion.text_hash[:8]}…: version id {approval.version_id}, inactive;")
    if approval.share_bp is None:
        say(f"no arm: {approval.note}")
    else:
        share = f"{approval.share_bp / 100:.1f} %"
        say(f"in experiment {approval.experiment} it is the new arm {approval.variant} with {share} of calls")
    return approval


def lines_of(suggestion: Suggestion) -> Iterator[str]:
    """Counts, quotes, objection, gate, diff; what comes from a model or a caller stays on its line."""
    yield from (_counts(pattern) for pattern in suggestion.patterns)
    for item in suggestion.evidence[:QUOTES]:
        yield f'quote: "{shown(item.quote, limit=100)}" (call {shown(item.unit_id)}, turn {item.turn})'
    yield f"and {max(len(suggestion.evidence) - QUOTES, 0)} more; expected: {shown(suggestion.expected_effect)}"
    yield f"objection: {shown(suggestion.objection or 'none', limit=200)}; risk: {shown(suggestion.risk)}"
    passed = sum(finding.passed for finding in suggestion.gate)
    yield (
        f"gate: {passed} of {len(suggestion.gate)} checks passed; {suggestion.growth:+} characters, "
        f"{100 * suggestion.changed_share:.1f} % of the prompt removed or replaced"
    )
    yield f"proposed by {suggestion.proposed_by}, for {suggestion.cost_usd or 0.0:.4f} USD"
    yield from (shown(line, limit=200) for line in suggestion.diff.splitlines() if line[:1] in "+-")


def _counts(pattern: JsonObject) -> str:
    """Of the calls that were read, with Wilson's interval, and of all that failed."""
    share, lower, upper, of_all = (
        f"{100 * pattern[name]:.0f} %" for name in ("share", "share_lower", "share_upper", "share_of_failing")
    )
    return (
        f"{shown(str(pattern['title']))}: {pattern['calls']} of the failing calls that were read, {share} "
        f"({lower} to {upper}); {of_all} of all that failed"
    )
