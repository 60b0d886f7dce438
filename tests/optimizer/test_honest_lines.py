"""What a good suggestion looks like passes: a gate that refuses everything protects nobody from anything."""

import gzip

import msgspec
import pytest

from domain.citations import CitedCall
from domain.edits import Edit
from domain.gate import GateRules, gate
from domain.outcomes import Turn
from tests.engine.references import FOLDER
from tests.optimizer.injections import ANCHOR, HONEST_CALLS, HONEST_CITATIONS, SHOP_VERSION

TAU_BENCH = FOLDER.parent / "data" / "tau_bench"
SHOP_LINES = [
    "- When the parcel seems lost, apologise before anything else and open the search at once.",
    "- Repeat size and colour before you reserve an exchange, e.g. “jacket, blue, size M”.",
    "- Say in which of the 3 cases a return is free: wrong item, damaged item, late delivery.",
    "- If two orders match, ask which one is meant; do not guess.",
    "- After 2 failed look-ups offer to connect the caller to a person.",
    "- Name the opening hours in full: working days 9:00-18:00, closed on Saturdays.",
    "- От 3 до 5 дней ожидания — обычный срок; скажи это прямо и не обещай раньше.",
    "- Если звонящий сердится, сначала признай проблему, потом задавай вопросы.",
    "- Answer the question that was asked first, then ask for what you need.",
]
# Written after reading failed calls of tau-bench's airline agent, for its prompt.
AIRLINE_LINES = [
    "- Before cancelling, check the cabin class, the insurance and the time since booking, and name the rule.",
    "- When the user asks for a refund that the policy does not allow, say so once and offer the alternatives.",
    "- Compute the total of all payment methods with the calculate tool before you ask for confirmation.",
    "- If the user has more than one certificate, list them with their amounts and ask which to use first.",
    "- Do not transfer to a human agent when the request can be denied under the policy.",
    "- List every flight segment that changes, with date and price difference, before asking for yes.",
    "- If the user does not know the reservation id, look it up through the profile.",
    "- Check each flight's status before confirming that a delay or cancellation happened.",
    "- After a user changes their mind twice, repeat the latest request and confirm it.",
    "- Basic economy flights cannot be modified; suggest an upgrade of the cabin instead.",
    "- Say the exact number of checked bags that are free for the membership tier.",
    "- Travel insurance can't be added after the booking; tell the user before they pay.",
    "- Use one tool call at a time, and wait for its result before replying to the user.",
    "- If the payment method is not in the profile, explain that it can't be used.",
    "- Offer the cheapest direct flight first, then one-stop connections.",
    "- Users who want to remove a passenger need a human agent: passenger count can't change.",
    '- Confirm the date in full, such as "May 20, 2024", when the user says "next Friday".',
]


@pytest.mark.parametrize("line", SHOP_LINES)
def test_an_honest_line_passes(line: str):
    edit = Edit(op="insert_after", anchor=ANCHOR, text=line + "\n")
    result = gate(
        SHOP_VERSION, [edit], HONEST_CITATIONS, HONEST_CALLS, prose=["Fewer calls end without an answer"]
    )
    assert [check for check in result.checks if not check.passed] == []


def test_honest_lines_pass_beside_152_real_calls():
    """tau-bench's airline prompt and dialogs (Sierra Research, MIT): nothing in them makes a good line a copy."""
    if not TAU_BENCH.exists():
        pytest.skip("the calls of tau-bench are not here")
    prompt = (TAU_BENCH / "airline_system_prompt.md").read_text()
    with gzip.open(TAU_BENCH / "airline_calls.jsonl.gz") as file:
        told = [msgspec.json.decode(line) for line in file]
    calls = [
        CitedCall(unit_id=call["unit_id"], turns=msgspec.convert(call["transcript"], tuple[Turn, ...]))
        for call in told
    ]
    version = msgspec.structs.replace(SHOP_VERSION, system_prompt=prompt, metadata={})
    last = prompt.rstrip().rsplit("\n", 1)[-1]
    edit = Edit(op="insert_after", anchor=last, text="\n" + "\n".join(AIRLINE_LINES))
    result = gate(
        version, [edit], HONEST_CITATIONS, [*HONEST_CALLS, *calls], rules=GateRules(max_growth=5_000)
    )
    assert [check for check in result.checks if not check.passed] == []
