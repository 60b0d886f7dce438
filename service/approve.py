"""Approve a suggestion: it becomes a version, and a variant where an experiment runs. Traffic moves no further."""

import datetime as dt

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import DomainError, TextMismatch
from domain.experiments import NewVariant, Policy
from domain.prompts import NewVersion, PromptVersion
from domain.suggestions import Approval, Suggestion
from service.change_variants import add_variant
from service.create_version import create_version
from service.find import allocation_now, pending_suggestion, prompt_id_named, suggestion_of, version_of
from storage.audit import append_audit
from storage.experiments import find_running
from storage.prompts import active_version_id
from storage.suggestions import decide_suggestion

FLOOR = 0.05  # of a policy that has none: somebody has to hear the new variant


async def approve(
    connection: AsyncConnection, suggestion_id: int, *, text_hash: str, actor: str, now: dt.datetime
) -> Approval:
    """An immutable, inactive version and, in a running experiment, a variant at the floor share.

    Where the parent is not active any more nothing is made: the suggestion is `stale`, which the caller
    commits before it refuses (`Approval.suggestion.status`).

    Raises
    ------
    SuggestionNotFound, SuggestionDecided
    TextMismatch : another text was read than the one that would be approved.
    SameContent : somebody made this version in another way meanwhile.
    """
    suggestion = await pending_suggestion(connection, suggestion_id)
    if suggestion.text_hash != text_hash:
        raise TextMismatch(suggestion_id=suggestion_id, stored=suggestion.text_hash, told=text_hash)
    parent = await version_of(connection, suggestion.parent_version_id)
    if not parent.is_active:
        return await _stale(connection, suggestion, actor=actor, now=now)
    version = await _make_version(connection, suggestion, parent, actor=actor, now=now)
    await decide_suggestion(
        connection, suggestion_id, status="approved", by=actor, now=now, version_id=version.id
    )
    approved = await suggestion_of(connection, suggestion_id)
    approval = await _enter(connection, Approval(suggestion=approved, version_id=version.id), actor, now)
    await _audit(connection, approval, actor=actor, now=now)
    return approval


async def _make_version(
    connection: AsyncConnection,
    suggestion: Suggestion,
    parent: PromptVersion,
    *,
    actor: str,
    now: dt.datetime,
) -> PromptVersion:
    """Tools and metadata are the parent's: a suggestion has no field for them."""
    new = NewVersion(
        name=suggestion.prompt,
        system_prompt=suggestion.system_prompt,
        tools_config=parent.tools_config,
        metadata=parent.metadata,
        parent_id=parent.id,
        author=suggestion.origin,
    )
    return await create_version(connection, new, actor=actor, now=now, suggestion_id=suggestion.id)


async def _stale(
    connection: AsyncConnection, suggestion: Suggestion, *, actor: str, now: dt.datetime
) -> Approval:
    prompt_id = await prompt_id_named(connection, suggestion.prompt)
    active = await active_version_id(connection, prompt_id)
    reason = f"version {active} is active, not {suggestion.parent_version_id}"
    await decide_suggestion(connection, suggestion.id, status="stale", by=actor, now=now, reason=reason)
    approval = Approval(suggestion=await suggestion_of(connection, suggestion.id), note=reason)
    await _audit(connection, approval, actor=actor, now=now)
    return approval


async def _enter(connection: AsyncConnection, approval: Approval, actor: str, now: dt.datetime) -> Approval:
    """With the variant that the running experiment got, or why there is none."""
    prompt = approval.suggestion.prompt
    running = await find_running(connection, await prompt_id_named(connection, prompt))
    if running is None:
        return _with(approval, note="no experiment runs on the prompt; activate the version or start one")
    key = f"s{approval.suggestion.id}"
    assert approval.version_id is not None
    new = NewVariant(key=key, version_id=approval.version_id, share=_share(running.policy))
    try:
        # It checks before it writes, so a refusal leaves the version and nothing half done.
        grown = await add_variant(connection, running.key, new, actor=actor, now=now)
    except DomainError as refused:
        return _with(approval, experiment=running.key, note=f"no variant was added: {refused}")
    split = (await allocation_now(connection, grown)).split
    return _with(approval, experiment=running.key, variant=key, share_bp=split[key])


def _share(policy: Policy) -> float:
    return policy.floor or FLOOR


def _with(approval: Approval, **fields: object) -> Approval:
    return msgspec.structs.replace(approval, **fields)


async def _audit(connection: AsyncConnection, approval: Approval, *, actor: str, now: dt.datetime) -> None:
    suggestion = approval.suggestion
    told = {name: getattr(approval, name) for name in ("version_id", "experiment", "variant", "note")}
    await append_audit(
        connection,
        actor=actor,
        action="approve" if suggestion.status == "approved" else "find_stale",
        record_type="suggestion",
        record_id=suggestion.id,
        now=now,
        before={"status": "pending"},
        after={"status": suggestion.status, "text_hash": suggestion.text_hash, **told},
    )
