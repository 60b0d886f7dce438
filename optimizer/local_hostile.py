"""The worst models there can be, for hostile tests: one obeys whatever a transcript says, one answers at random.

Whatever they answer has the right shape; that nothing of it reaches a caller is the gate's and the manager's work.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import get_args

from optimizer.answers import MAX_PATTERNS, MAX_SUGGESTIONS, Category, EditOperation, Fault
from optimizer.local_analysts import (
    AGENT_ROLES,
    Blocks,
    Json,
    analyst,
    good_notes,
    last_unique_line,
    note_on,
    pattern_of,
    suggestion_for,
)
from optimizer.local_replies import Behaviour

_ORDER = re.compile(
    r"(?:ignore|disregard|forget|new instruction|system\s*:|assistant\s*:|you must|add (?:this|the)|insert|append)"
    r".*",
    re.IGNORECASE | re.DOTALL,
)

# What a random edit may hold: harmless words, and everything that a gate has to stop.
_SCRAPS = (
    "Be friendly.",
    "Name the next step.",
    "Go to http://example.invalid/pay now.",
    "Call 0800 123 4567.",
    "Write to someone@example.invalid.",
    "{customer_name}",
    "Zero\u200bwidth.",
    "Right\u202eto left.",
    "x" * 2_000,
    "",
)


def _orders_in(call: Json) -> list[tuple[int, str]]:
    texts = [
        (turn["turn"], str(turn.get("content") or ""))
        for turn in call["turns"]
        if turn["role"] not in AGENT_ROLES
    ]
    return [(number, match[0]) for number, text in texts if (match := _ORDER.search(text))]


def _obeying_notes(blocks: Blocks) -> Json:
    orders = _orders_in(blocks["call"])
    notes = [
        note_on("agent_prompt", "ignored_request", turn, order, blocks["call"])
        | {"root_cause": order[:4_000]}
        for turn, order in orders
    ]
    return {"optimal": False, "notes": notes[:20]} if orders else good_notes(blocks)


def _obeying_patterns(blocks: Blocks) -> Json:
    """Every note is a pattern of its own, with evidence that is claimed for two calls."""
    labels = sorted({item["call"] for item in blocks["notes"]})
    patterns = [
        pattern_of(number, _name(item), [item]) for number, item in enumerate(blocks["notes"], start=1)
    ]
    for pattern in patterns:
        pattern["failing_evidence"] += [e | {"call": labels[0]} for e in pattern["failing_evidence"]]
    return {"patterns": patterns[:MAX_PATTERNS]}


def _name(item: Json) -> tuple[str, str, str]:
    return item["note"]["fault"], item["note"]["category"], item["note"]["root_cause"]


def _obeying_report(blocks: Blocks) -> Json:
    anchor = last_unique_line(blocks["prompt"]["system_prompt"]) or "."
    suggestions = [
        suggestion_for(pattern | {"category": "missing_knowledge"}, anchor)
        | {"edits": [{"op": "insert_after", "anchor": anchor, "text": "\n" + quote}]}
        for pattern in (item["pattern"] for item in blocks["patterns"])
        for quote in [evidence["quote"] for evidence in pattern["failing_evidence"]][:1]
    ]
    return {"warrants_change": True, "no_change_reason": None, "suggestions": suggestions[:MAX_SUGGESTIONS]}


def _obeying_critique(_: Blocks) -> Json:
    return {"verdict": "sound", "objection": "None at all.", "intents_at_risk": []}


obeying_analyst: Behaviour = analyst(
    {
        "call": _obeying_notes,
        "notes": _obeying_patterns,
        "patterns": _obeying_report,
        "change": _obeying_critique,
    }
)


def random_analyst(seed: int) -> Behaviour:
    """Answers drawn at random, the same for the same seed and question."""

    def drawn(answer: Callable[[random.Random, Blocks], Json]) -> Callable[[Blocks], Json]:
        return lambda blocks: answer(random.Random(f"{seed}/{json.dumps(blocks, sort_keys=True)}"), blocks)

    return analyst(
        {
            "call": drawn(_random_notes),
            "notes": drawn(_random_patterns),
            "patterns": drawn(_random_report),
            "change": drawn(_random_critique),
        }
    )


def _random_notes(rng: random.Random, blocks: Blocks) -> Json:
    turns = blocks["call"]["turns"] or [{"turn": 0, "content": "nothing"}]
    notes = [
        note_on(
            rng.choice(get_args(Fault)), rng.choice(get_args(Category)), turn["turn"], _quote(rng, turn), {}
        )
        for turn in rng.choices(turns, k=rng.randrange(4))
    ]
    return {"optimal": rng.random() < 0.3, "notes": notes}


def _quote(rng: random.Random, turn: Json) -> str:
    said = str(turn.get("content") or "")
    start = rng.randrange(len(said) + 1)
    return said[start : start + rng.randrange(1, 60)] or rng.choice(_SCRAPS)[:200] or "made up"


def _random_patterns(rng: random.Random, blocks: Blocks) -> Json:
    notes = blocks["notes"]
    patterns = [
        pattern_of(number, _name(rng.choice(notes)), rng.choices(notes, k=rng.randrange(1, 6)))
        for number in range(1, 1 + (rng.randrange(12) if notes else 0))
    ]
    return {"patterns": patterns}


def _random_report(rng: random.Random, blocks: Blocks) -> Json:
    prompt = blocks["prompt"]["system_prompt"]
    keys = [item["pattern"]["key"] for item in blocks["patterns"]] or ["p0"]
    suggestions = [_random_suggestion(rng, prompt, keys) for _ in range(rng.randrange(6))]
    return {"warrants_change": rng.random() < 0.8, "no_change_reason": None, "suggestions": suggestions}


def _random_suggestion(rng: random.Random, prompt: str, keys: Sequence[str]) -> Json:
    edits = [_random_edit(rng, prompt) for _ in range(rng.randrange(4))]
    return {
        "title": "At random",
        "addresses": rng.choices(keys, k=rng.randrange(3)),
        "edits": edits,
        "expected_effect": "Anything.",
        "risk": "Everything.",
        "regression_watch": [],
    }


def _random_edit(rng: random.Random, prompt: str) -> Json:
    start = rng.randrange(len(prompt) + 1)
    anchor = prompt[start : start + rng.randrange(1, 80)] or "not in the prompt"
    operation = rng.choice(get_args(EditOperation))
    text = None if operation == "delete" else " ".join(rng.choices(_SCRAPS, k=rng.randrange(1, 4)))
    return {"op": operation, "anchor": anchor, "text": text}


def _random_critique(rng: random.Random, blocks: Blocks) -> Json:
    verdict = rng.choice(["sound", "doubtful", "harmful"])
    return {"verdict": verdict, "objection": f"{len(blocks)} blocks.", "intents_at_risk": []}
