"""A model that reads calls as a good one does, and then edits the prompt by throwing dice."""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_replies import Behaviour, Reply, message


def random_analyst(seed: int) -> Behaviour:
    """Each suggestion moves some words of the prompt to another place of it."""
    chance = random.Random(seed)

    def behave(body: Mapping[str, Any]) -> Reply:
        blocks = blocks_of(body)
        if "patterns" not in blocks:
            return good_analyst(body)
        prompt = blocks["prompt"]["system_prompt"]
        keys = [item["pattern"]["key"] for item in blocks["patterns"]]
        report = {
            "warrants_change": True,
            "no_change_reason": None,
            "suggestions": [_suggestion(prompt, key, chance) for key in keys[:3]],
        }
        return message(body, json.dumps(report))

    return behave


def _suggestion(prompt: str, key: str, chance: random.Random) -> dict[str, Any]:
    lines = [line for line in prompt.splitlines() if line.strip() and prompt.count(line) == 1]
    known = sorted(set(re.findall(r"\b[a-z]{3,12}\b", prompt)))
    said = " ".join(chance.sample(known, 7))
    return {
        "title": "Something else",
        "addresses": [key],
        "edits": [
            {
                "op": chance.choice(["insert_after", "insert_before"]),
                "anchor": chance.choice(lines),
                "text": f"\n{said.capitalize()}.\n",
            }
        ],
        "expected_effect": "None that anybody knows.",
        "risk": "None that anybody knows.",
        "regression_watch": [],
    }
