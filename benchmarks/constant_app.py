"""How fast is our HTTP alone? The same server, with everything behind the handlers replaced by a constant.

Parsing, keys, validation, metrics, logs and encoding stay; no unit is hashed and nothing is stored.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from api.app import create_app as create_real_app
from api.context import Parts
from api.gate import Gate
from domain.assignments import Assignment, NewAssignment
from domain.outcomes import NewOutcome, OutcomeStatus
from domain.prompts import ServedVersion

ANSWER = Assignment(
    prompt="bench",
    prompt_id=1,
    unit_id="call-0",
    version=ServedVersion(
        id=1, number=1, name="bench", system_prompt="v0", tools_config=[], metadata={}, content_hash="0" * 64
    ),
    reason="STATIC",
    assigned_at=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
)


class ConstantAssigner:
    """Gives every call the same."""

    async def answer(self, _new: NewAssignment) -> Assignment:
        return ANSWER


class ConstantRecorder:
    """Accepts everything and keeps nothing."""

    async def take(self, outcomes: Sequence[NewOutcome]) -> list[OutcomeStatus]:
        return ["accepted"] * len(outcomes)


def create_app() -> Gate:
    """The ASGI application."""
    gate = create_real_app()
    parts: Parts = gate.app.state.parts
    constants: dict[str, Any] = {"assigner": ConstantAssigner(), "recorder": ConstantRecorder()}
    gate.app.state.parts = cast("Parts", replace(parts, **constants))
    return gate
