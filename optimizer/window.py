"""What there is to read: live versions, their scored calls, and the words of those in the sample."""

import datetime as dt
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.citations import CitedCall
from domain.experiments import Experiment
from domain.fields import Record
from domain.outcomes import StoredOutcome, Turn
from domain.prompts import PromptVersion
from optimizer.plan import Plan
from optimizer.requests import CallToRead, PromptUnderStudy
from optimizer.sampling import Sample, ScoredCall
from storage.experiments import find_running
from storage.outcomes import find_outcomes
from storage.prompts import active_version_id, find_version
from storage.scored_calls import StoredScore, read_scores, read_turns


class Live(Record, frozen=True, kw_only=True):
    """Who answers calls now: the version that an edit starts from, and all versions by variant."""

    parent: PromptVersion
    experiment_id: int | None
    versions: Mapping[str, int]


class Labelled(Record, frozen=True, kw_only=True):
    """A call of the half that is read, with the name that it has in this run; the frozen sample decides it."""

    label: str
    unit_id: str
    variant: str
    segment: str
    failed: bool


class ReadCall(Record, frozen=True, kw_only=True):
    """What such a call said."""

    unit_id: str
    variant: str
    call: CallToRead

    @property
    def cited(self) -> CitedCall:
        """As the gate looks at it."""
        return CitedCall(unit_id=self.unit_id, turns=self.call.turns)


class Material(Record, frozen=True, kw_only=True):
    """What the requests of a run are made of."""

    parent: PromptVersion
    prompts: Mapping[str, PromptUnderStudy]
    calls: tuple[ReadCall, ...]

    @property
    def study(self) -> PromptUnderStudy:
        """The prompt that would be changed."""
        return study_of(self.parent)


async def find_live(connection: AsyncConnection, prompt_id: int) -> Live | None:
    """The live variants of the running experiment, else the active version; None where nothing is active."""
    active_id = await active_version_id(connection, prompt_id)
    parent = None if active_id is None else await find_version(connection, active_id)
    if parent is None:
        return None
    experiment = await find_running(connection, prompt_id)
    if experiment is None:
        return Live(parent=parent, experiment_id=None, versions={f"v{parent.number}": parent.id})
    return Live(parent=parent, experiment_id=experiment.id, versions=_live_versions(experiment))


def _live_versions(experiment: Experiment) -> dict[str, int]:
    return {
        variant.key: variant.version_id
        for variant in experiment.variants
        if variant.live and variant.version_id is not None
    }


async def scores_of(
    connection: AsyncConnection, prompt_id: int, live: Live, window: tuple[dt.datetime, dt.datetime]
) -> list[StoredScore]:
    """The scored calls of live versions."""
    return await read_scores(
        connection,
        prompt_id,
        experiment_id=live.experiment_id,
        version_ids=list(live.versions.values()),
        window=window,
    )


def scored_calls(scores: Sequence[StoredScore], versions: Mapping[str, int]) -> list[ScoredCall]:
    """As sampling wants them."""
    names = {version_id: name for name, version_id in versions.items()}
    return [
        ScoredCall(
            unit_id=item.unit_id,
            variant=names[item.version_id],
            segment=item.segment,
            quality=item.quality,
            characters=item.characters,
            caller=item.caller,
        )
        for item in scores
    ]


async def read_material(connection: AsyncConnection, prompt_id: int, plan: Plan, drawn: Sample) -> Material:
    """The words of the half that is read. The other half is not even loaded."""
    found = {name: await find_version(connection, number) for name, number in plan.versions.items()}
    parent = await find_version(connection, plan.parent_version_id)
    assert parent is not None, f"version {plan.parent_version_id} is gone; versions are never deleted"
    wanted = labelled(drawn)
    units = [item.unit_id for item in wanted]
    turns = await read_turns(connection, prompt_id, units)
    outcomes = await find_outcomes(connection, [(prompt_id, unit_id) for unit_id in units]) if units else {}
    calls = [
        _read_call(item, turns[item.unit_id], outcomes.get((prompt_id, item.unit_id), {}))
        for item in wanted
        if item.unit_id in turns  # else it was forgotten since
    ]
    prompts = {name: study_of(version) for name, version in found.items() if version is not None}
    return Material(parent=parent, prompts=prompts, calls=tuple(calls))


def _read_call(item: Labelled, turns: tuple[Turn, ...], outcomes: Mapping[str, StoredOutcome]) -> ReadCall:
    call = CallToRead(
        label=item.label,
        failed=item.failed,
        segment=item.segment or None,
        outcomes={name: told.value for name, told in sorted(outcomes.items())},
        turns=turns,
    )
    return ReadCall(unit_id=item.unit_id, variant=item.variant, call=call)


def labelled(drawn: Sample) -> tuple[Labelled, ...]:
    """The half that is read. A good call has the variant and segment of the one that it is matched to."""
    failing = {call.unit_id: call for call in drawn.failing}
    read = [(call.unit_id, call, True) for call in drawn.failing if call.half == "read"]
    mates = [(call.unit_id, failing[call.matches], False) for call in drawn.good if call.half == "read"]
    return tuple(
        Labelled(
            label=f"c{number}", unit_id=unit_id, variant=kind.variant, segment=kind.segment, failed=failed
        )
        for number, (unit_id, kind, failed) in enumerate(read + mates, start=1)
    )


def study_of(version: PromptVersion) -> PromptUnderStudy:
    """The text, and the names of the tools; what else a tool's definition says stays here."""
    tools = version.tools_config if isinstance(version.tools_config, list) else list(version.tools_config)
    return PromptUnderStudy(system_prompt=version.system_prompt, tools=tuple(_tool_names(tools)))


def _tool_names(tools: Sequence[object]) -> list[str]:
    named = [tool.get("name") or _function_name(tool) if isinstance(tool, dict) else tool for tool in tools]
    return [name for name in named if isinstance(name, str)]


def _function_name(tool: dict[str, object]) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None
