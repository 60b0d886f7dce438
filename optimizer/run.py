"""A run of the optimizer on one prompt: claimed, sampled, and then step by step, each saved before the next.

Whoever is killed is continued by the next run: it begins at the saved state, and what a model was asked and
paid for is read from the ledger.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import PromptNotFound
from domain.fields import Record
from domain.optimizer_settings import OptimizerSettings
from optimizer.answers import STAGES
from optimizer.book import account_of, ledger_of
from optimizer.budget import Budget
from optimizer.claude import open_claude
from optimizer.plan import Plan, Scope, config_hash, plan_for
from optimizer.prices import price_of, prices_from
from optimizer.sampling import Sample, Trigger, sample, trigger
from optimizer.steps import STEPS
from optimizer.window import find_live, scored_calls, scores_of
from optimizer.work import Lease, LeaseLost, Means, StillWorking, Stopped, Work, finish, save
from storage.database import Database
from storage.leases import release_lease, take_lease
from storage.optimizer_runs import (
    ENDED,
    OptimizerRun,
    close_open_runs,
    find_open_run,
    find_run_before,
    find_run_until,
    has_pending_suggestion,
    insert_run,
    last_done_until,
    lease_name,
    save_run,
)
from storage.prompts import find_prompt_id

RESUMABLE_FOR = dt.timedelta(hours=48)  # a batch takes up to 24
LEAVES_OVER = "left unfinished, by other settings or too long ago; a new run was begun"
TAKEN_OVER = "another run has taken this prompt over, or a call that it had read was forgotten"

EndStatus = Literal["done", "skipped", "failed", "busy", "waiting"]


class Ended(Record, frozen=True, kw_only=True):
    """How a run ended: `busy` where somebody else works on the prompt, `waiting` where a batch is not ready.

    `handed` are its suggestions, `beyond` the patterns that no prompt can mend: for a person.
    """

    prompt: str
    status: EndStatus
    reason: str
    run_id: int | None = None
    cost_usd: float = 0.0
    handed: tuple[Mapping[str, Any], ...] = ()
    beyond: tuple[Mapping[str, Any], ...] = ()


class Look(Record, frozen=True, kw_only=True):
    """What a window holds: whether there is enough, and what would be read."""

    trigger: Trigger
    plan: Plan | None
    drawn: Sample | None


async def optimize(means: Means, prompt: str, scope: Scope) -> Ended:
    """Do a run, or go on with one; of two at once one works and the other says so.

    Raises
    ------
    PromptNotFound : there is no such prompt.
    ValueError : the settings lack a key, or the price of a model.
    """
    check_settings(means.settings)
    prompt_id = await prompt_id_of(means.database, prompt)
    lease = Lease(name=lease_name(prompt_id), holder=means.seed, for_s=means.lease_s)
    async with means.database.writing() as connection:
        if not await take_lease(connection, lease.name, holder=lease.holder, for_s=lease.for_s):
            return Ended(prompt=prompt, status="busy", reason="another run works on this prompt")
    try:
        return await _run(means, lease, prompt, prompt_id, scope)
    except LeaseLost:
        return Ended(prompt=prompt, status="busy", reason=TAKEN_OVER)
    finally:
        async with means.database.writing() as connection:
            await release_lease(connection, lease.name, holder=lease.holder)


async def prompt_id_of(database: Database, prompt: str) -> int:
    """Its id, or PromptNotFound."""
    async with database.reading() as connection:
        prompt_id = await find_prompt_id(connection, prompt)
    if prompt_id is None:
        raise PromptNotFound(name=prompt)
    return prompt_id


def check_settings(settings: OptimizerSettings) -> None:
    """ValueError before anything is claimed, not in the middle of a run."""
    if not settings.anthropic_api_key:
        raise ValueError("PROMPTBANDIT_ANTHROPIC_API_KEY is not set; the optimizer needs a key of its own")
    prices = prices_from(settings.optimizer_prices)
    for stage in STAGES:
        price_of(settings.model_of(stage), prices)


async def _run(means: Means, lease: Lease, prompt: str, prompt_id: int, scope: Scope) -> Ended:
    run = await _claim(means, prompt_id, scope)
    means.watch(run.status, 0, 0)
    if run.status == "claimed":
        run = await _draw(means, lease, run, scope)
        means.watch(run.status, 0, 0)
    if run.status in ENDED:
        return _ended(prompt, run)
    budget = Budget(
        max_usd=means.settings.optimizer_max_cost_usd,
        max_tokens=means.settings.optimizer_max_tokens,
        max_month_usd=means.settings.optimizer_max_month_usd,
    )
    ledger = ledger_of(means.database, run.id, means.clock)
    account = await account_of(means.database, run.id, budget, now=means.clock())
    async with open_claude(means.settings, ledger=ledger, account=account, patience=means.patience) as claude:
        return await _advance(Work(means=means, lease=lease, prompt=prompt, claude=claude), run)


async def _advance(work: Work, run: OptimizerRun) -> Ended:
    try:
        while run.status not in ENDED:
            run = await STEPS[run.status](work, run)
            work.means.watch(run.status, 0, 0)
    except Stopped as stopped:
        run = await finish(
            work.means,
            work.lease,
            run,
            "failed",
            str(stopped),
            resume_from=run.status if stopped.can_resume else None,
        )
    except StillWorking:
        reason = "the batch is not ready; the next run collects it"
        return Ended(prompt=work.prompt, status="waiting", reason=reason, run_id=run.id)
    return _ended(work.prompt, run)


def _ended(prompt: str, run: OptimizerRun) -> Ended:
    results = run.results or {}
    return Ended(
        prompt=prompt,
        status=msgspec.convert(run.status, EndStatus),
        reason=run.reason or "",
        run_id=run.id,
        cost_usd=run.cost_usd,
        handed=tuple(results.get("handed", ())),
        beyond=tuple(results.get("found", {}).get("not_fixable", ())),
    )


async def _claim(means: Means, prompt_id: int, scope: Scope) -> OptimizerRun:
    """The run that was left unfinished, at the state that it had come to, or a new one."""
    now, digest = means.clock(), config_hash(means.settings, scope)
    async with means.database.writing() as connection:
        left = await find_open_run(connection, prompt_id, config_hash=digest, since=now - RESUMABLE_FOR)
        if left is not None:
            status = left.resume_from or left.status
            return await save_run(
                connection, left.id, status=status, resume_from=None, reason=None, finished_at=None
            )
        same = await find_run_until(connection, prompt_id, config_hash=digest, window_end=now)
        if same is not None:
            return same
        await close_open_runs(connection, prompt_id, reason=LEAVES_OVER, now=now)
        return await insert_run(
            connection,
            prompt_id=prompt_id,
            window=_window(now, scope),
            config_hash=digest,
            seed=means.seed,
            now=now,
        )


def _window(now: dt.datetime, scope: Scope) -> tuple[dt.datetime, dt.datetime]:
    return now - dt.timedelta(days=scope.days), now


async def _draw(means: Means, lease: Lease, run: OptimizerRun, scope: Scope) -> OptimizerRun:
    """claimed → sampled, or skipped: the sample stands in the row before anything is sent."""
    async with means.database.reading() as connection:
        seen = await look(
            connection,
            run.prompt_id,
            settings=means.settings,
            rules_of=scope,
            window=(run.window_start, run.window_end),
            seed=run.seed,
        )
        before = await find_run_before(connection, run)
    if not seen.trigger.run:
        return await finish(means, lease, run, "skipped", seen.trigger.reason)
    taken_over = what_was_paid(before, run, seen.plan)
    if taken_over is not None:
        return await save(means, lease, run, **taken_over)
    return await save(
        means,
        lease,
        run,
        status="sampled",
        plan=msgspec.to_builtins(seen.plan),
        sample=msgspec.to_builtins(seen.drawn),
    )


def what_was_paid(before: OptimizerRun | None, run: OptimizerRun, plan: Plan | None) -> dict[str, Any] | None:
    """What of a run that failed for good need not be paid again: its sample, its notes, its patterns.

    The question that it failed at is asked once more; the analyses of its calls are as good as they were. None
    where there is no such run: of the same settings, about the same versions, drawn in the last 48 hours.
    """
    if before is None or before.status != "failed" or before.config_hash != run.config_hash:
        return None
    results = before.results or {}
    drawn_at = results.get("drawn_at", before.started_at.isoformat())
    is_old = dt.datetime.fromisoformat(drawn_at) < run.started_at - RESUMABLE_FOR
    if "notes" not in results or "forgotten" in results or is_old:
        return None
    if before.plan != msgspec.to_builtins(plan):
        return None
    kept = {name: results[name] for name in ("notes", "unread", "earlier", "found") if name in results}
    return {
        "status": "reduced" if "found" in kept else "mapped",
        "seed": before.seed,
        "plan": before.plan,
        "sample": before.sample,
        "results": kept | {"drawn_at": drawn_at},
    }


async def look(
    connection: AsyncConnection,
    prompt_id: int,
    *,
    settings: OptimizerSettings,
    rules_of: Scope,
    window: tuple[dt.datetime, dt.datetime],
    seed: str,
) -> Look:
    """What there is, without changing anything. Only calls since the last run that was done count for the trigger."""
    live = await find_live(connection, prompt_id)
    if live is None:
        nothing = Trigger(run=False, failing=0, good=0, reason="the prompt has no active version")
        return Look(trigger=nothing, plan=None, drawn=None)
    scores = await scores_of(connection, prompt_id, live, window)
    since = await last_done_until(connection, prompt_id) or window[0]
    enough = trigger(
        scored_calls([item for item in scores if item.assigned_at >= since], live.versions),
        live=live.versions,
        pending=await has_pending_suggestion(connection, prompt_id),
        rules=rules_of.rules,
    )
    drawn = sample(scored_calls(scores, live.versions), live=live.versions, seed=seed, rules=rules_of.rules)
    plan = plan_for(settings, parent_version_id=live.parent.id, versions=live.versions)
    return Look(trigger=enough, plan=plan, drawn=drawn)
