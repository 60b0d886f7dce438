"""What a scripted model was asked, and one that fails at one stage."""

from collections.abc import Mapping
from typing import Any

from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import Behaviour, Reply
from optimizer.requests import hash_of


def stages(local: LocalProvider) -> list[str]:
    """The stage of each question, by the block that tells it."""
    names = {"call": "map", "notes": "reduce", "patterns": "propose", "change": "critic"}
    return [names[next(name for name in blocks_of(q) if name in names)] for q in local.questions]


def only(stage: str, behaviour: Behaviour) -> Behaviour:
    """A good analyst, but for the questions of one stage."""
    block = {"map": "call", "reduce": "notes", "propose": "patterns", "critic": "change"}[stage]

    def behave(body: Mapping[str, Any]) -> Reply:
        return (behaviour if block in blocks_of(body) else good_analyst)(body)

    return behave


def paid_twice(local: LocalProvider) -> list[str]:
    hashes = [hash_of(question) for question in local.questions]
    return [item for item in hashes if hashes.count(item) > 1]
