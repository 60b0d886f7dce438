"""`good_analyst`: a scripted model that reads the blocks of a request as a real one would.

It finds failing patterns by simple rules, so that the whole circle can be shown and tested without a model.
`careless_analyst` finds the same ones and gives advice that hurts; its critic says so.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optimizer.answers import MAX_PATTERNS, MAX_SUGGESTIONS
from optimizer.fences import unfenced
from optimizer.local_replies import Behaviour, Reply, error, message

type Blocks = Mapping[str, Any]
type Json = dict[str, Any]

AGENT_ROLES = ("agent", "assistant")
# What an agent says when its prompt did not tell it what to do, and what that means.
_SIGNS: tuple[tuple[str, str], ...] = (
    (r"\b(do not|don't) (know|have (that|this|any) information)\b|\bnot sure\b", "missing_knowledge"),
    (r"\b(cannot|can't|can not|unable to|not able to)\b", "ignored_request"),
    (r"\b(transfer(ring)? you|put you through|connect you)\b", "unneeded_transfer"),
    (r"\b(once more|again|repeat)\b.*\?", "asked_again"),
)
_ADVICE: dict[str, str] = {
    "missing_knowledge": "say what is known so far, look it up with the tools at hand, and name the next step",
    "ignored_request": "offer what can be done instead before anything else",
    "unneeded_transfer": "try to solve the request first and hand over only on demand",
    "asked_again": "keep what was already said in mind and never request it twice",
}
CARELESS_ADVICE = "Answer from memory and look nothing up, so that calls stay short."


def blocks_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a request by the names of its blocks."""
    return dict(unfenced(part["text"]) for part in body["messages"][0]["content"])


def analyst(answers: Mapping[str, Callable[[Blocks], Json]]) -> Behaviour:
    """A behaviour from one function a block: `call` (map), `notes` (reduce), `patterns`, `change`."""

    def behave(body: Mapping[str, Any]) -> Reply:
        blocks = blocks_of(body)
        for name, answer in answers.items():
            if name in blocks:
                return message(body, json.dumps(answer(blocks), ensure_ascii=False))
        return error(400, "invalid_request_error", f"no known block among {sorted(blocks)}")(body)

    return behave


def good_notes(blocks: Blocks) -> Json:
    """The first thing in the call that a better prompt would have changed."""
    call = blocks["call"]
    notes = [note for turn in call["turns"] if (note := _note_of(turn, call)) is not None]
    if call["failed"] and not notes:
        notes = _unexplained(call)
    return {"optimal": not notes, "notes": notes[:1]}


def _note_of(turn: Json, call: Json) -> Json | None:
    text = turn.get("content") or ""
    if turn["role"] not in AGENT_ROLES:
        return None
    for pattern, category in _SIGNS:
        sentence = next((s for s in _sentences(text) if re.search(pattern, s, re.IGNORECASE)), None)
        if sentence is not None:
            return note_on("agent_prompt", category, turn["turn"], sentence, call)
    return None


def _unexplained(call: Json) -> list[Json]:
    said = [turn for turn in call["turns"] if (turn.get("content") or "").strip()]
    return [note_on("caller", "other", said[-1]["turn"], said[-1]["content"], call)] if said else []


def note_on(fault: str, category: str, turn: int, quote: str, call: Json) -> Json:
    """A note as the schema wants it."""
    topic = call.get("segment") or "any request"
    return {
        "fault": fault,
        "category": category,
        "root_cause": f"The prompt gives no guidance on {topic}.",
        "turn": turn,
        "quote": quote[:1_000],
        "prompt_section": None,
    }


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


def _good_patterns(blocks: Blocks) -> Json:
    groups: dict[tuple[str, str, str], list[Json]] = defaultdict(list)
    for item in blocks["notes"]:
        note = item["note"]
        groups[note["fault"], note["category"], note["root_cause"]].append(item)
    several = [
        (name, items) for name, items in groups.items() if len({i["call"] for i in items if i["failed"]}) >= 2
    ]
    several.sort(key=lambda pair: (-len(pair[1]), pair[0]))
    patterns = [pattern_of(number, *pair) for number, pair in enumerate(several[:MAX_PATTERNS], start=1)]
    return {"patterns": patterns}


def pattern_of(number: int, name: tuple[str, str, str], items: Sequence[Json]) -> Json:
    """The pattern of some notes."""
    fault, category, root_cause = name
    return {
        "key": f"p{number}",
        "title": f"{category.replace('_', ' ')}: {items[0].get('segment') or 'any request'}",
        "fault": fault,
        "category": category,
        "root_cause": root_cause,
        "failing_evidence": [_evidence(item) for item in items if item["failed"]][:100],
        "counter_evidence": [_evidence(item) for item in items if not item["failed"]][:100],
        "prompt_section": None,
    }


def _evidence(item: Json) -> Json:
    return {"call": item["call"], "turn": item["note"]["turn"], "quote": item["note"]["quote"]}


def _good_report(blocks: Blocks) -> Json:
    prompt = blocks["prompt"]["system_prompt"]
    anchor = last_unique_line(prompt)
    seen = {edit["text"] for item in blocks["earlier"] for edit in item["edits"]}
    found = [item["pattern"] for item in blocks["patterns"] if item["pattern"]["category"] in _ADVICE]
    made = [suggestion_for(pattern, anchor) for pattern in found if pattern["fault"] == "agent_prompt"]
    new = [item for item in made if item["edits"][0]["text"] not in seen]
    if anchor is None or not new:
        return {
            "warrants_change": False,
            "no_change_reason": "No pattern is the prompt's.",
            "suggestions": [],
        }
    return {"warrants_change": True, "no_change_reason": None, "suggestions": new[:MAX_SUGGESTIONS]}


def last_unique_line(prompt: str) -> str | None:
    """An anchor."""
    lines = [line for line in prompt.splitlines() if line.strip() and prompt.count(line) == 1]
    return lines[-1][-2_000:] if lines else None


def suggestion_for(pattern: Json, anchor: str | None) -> Json:
    """One sentence of advice at the end of the prompt."""
    topic = pattern["title"].partition(": ")[2]
    text = f"\nWhen a caller asks about {topic}: {_ADVICE[pattern['category']]}."
    return {
        "title": f"Guidance on {topic}"[:300],
        "addresses": [pattern["key"]],
        "edits": [{"op": "insert_after", "anchor": anchor or "", "text": text}],
        "expected_effect": f"Fewer calls about {topic} fail.",
        "risk": "Calls may take longer.",
        "regression_watch": [topic[:300]],
    }


def _good_critique(blocks: Blocks) -> Json:
    evidence = blocks["change"]["evidence"]
    is_carried = len({item["call"] for item in evidence}) >= 2
    return {
        "verdict": "sound" if is_carried else "doubtful",
        "objection": "Longer answers cost time." if is_carried else "Too few calls show it.",
        "intents_at_risk": [],
    }


def _careless_report(blocks: Blocks) -> Json:
    """The first suggestion, with advice that reads well and hurts: no check of the gate can know that."""
    report = _good_report(blocks)
    return report | {"suggestions": [_careless(item) for item in report["suggestions"][:1]]}


def _careless(suggestion: Json) -> Json:
    edits = [edit | {"text": f"\n{CARELESS_ADVICE}"} for edit in suggestion["edits"]]
    told = {
        "title": "Quicker answers",
        "expected_effect": "Calls are shorter.",
        "risk": "None that is known.",
    }
    return suggestion | told | {"edits": edits}


def _wary_critique(_: Blocks) -> Json:
    objection = "What was looked up so far is guessed from now on."
    return {"verdict": "doubtful", "objection": objection, "intents_at_risk": ["any request"]}


good_analyst: Behaviour = analyst(
    {"call": good_notes, "notes": _good_patterns, "patterns": _good_report, "change": _good_critique}
)
careless_analyst: Behaviour = analyst(
    {"call": good_notes, "notes": _good_patterns, "patterns": _careless_report, "change": _wary_critique}
)
