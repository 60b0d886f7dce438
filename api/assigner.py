"""Every call gets a prompt: from the database in time, else from memory, else from the fallback file.

Two-stage deadline: we stop waiting for the database, we do not cancel it. A cancelled query costs its
connection, and reconnecting is what a database under load needs least; so a late query goes on and
records its assignment, or dies at statement_timeout and leaves it to the backlog.
"""

import asyncio
from collections import OrderedDict, deque

import msgspec

from api.clock import Clock
from api.last_known import LastKnown
from api.log import log
from api.problems import StorageAway
from api.settings import Settings
from domain.assignments import Assignment, NewAssignment
from domain.errors import NothingToServe, PromptNotFound
from domain.prompts import ServedVersion
from domain.snapshot import PromptState, derive
from service.assign import assign, record_late
from storage.away import is_storage_away
from storage.database import Database
from storage.prompts import find_prompt_ids

REMEMBERED = 50_000
LATE_BATCH = 100


class Assigner:
    """Answers `POST /assignments`; holds what has to be recorded when the database is back."""

    def __init__(
        self,
        database: Database,
        last_known: LastKnown,
        fallbacks: dict[str, ServedVersion],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._last_known = last_known
        self._fallbacks = fallbacks
        self._settings = settings
        self._clock = clock
        self._given: OrderedDict[tuple[str, str], Assignment] = OrderedDict()
        self._tasks: set[asyncio.Task[Assignment | None]] = set()
        self._refreshes: set[asyncio.Task[bool]] = set()  # asyncio forgets tasks that nobody holds
        self.backlog: deque[Assignment] = deque(maxlen=settings.backlog_size)
        self.dropped = 0

    async def answer(self, new: NewAssignment) -> Assignment:
        """What the unit gets, within the soft deadline.

        Raises
        ------
        PromptNotFound, NothingToServe : the database says so.
        StorageAway : nothing is known of the prompt, the database is away, and no fallback was given.
        """
        given = self._given.get((new.prompt, new.unit_id))
        if given is not None:
            return given
        proposal = await self._propose(new)
        if self._last_known.is_away or len(self._tasks) >= self._settings.max_in_flight:
            return self._answer_late(proposal)
        task = asyncio.create_task(self._record(proposal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait({task}, timeout=self._settings.soft_deadline_ms / 1000)
        recorded = task.result() if done else None
        if recorded is None:
            return self._stale(proposal)  # the task records it later or leaves it to the backlog
        return self._remember(self._with_text(recorded, proposal))

    async def _propose(self, new: NewAssignment) -> Assignment:
        state = self._last_known.state(new.prompt)
        if state is None and not self._last_known.is_away:
            # Somebody may have created it a moment ago, on another server.
            refresh = asyncio.create_task(self._last_known.refresh())
            self._refreshes.add(refresh)
            refresh.add_done_callback(self._refreshes.discard)
            await asyncio.wait({refresh}, timeout=self._settings.soft_deadline_ms / 1000)
            state = self._last_known.state(new.prompt)
            if state is None and refresh.done() and refresh.result():
                raise PromptNotFound(name=new.prompt)
        proposal = (
            derive(state, unit_id=new.unit_id, segment=new.segment, now=self._clock()) if state else None
        )
        return proposal or self._default(new, state)

    def _default(self, new: NewAssignment, state: PromptState | None) -> Assignment:
        version = self._fallbacks.get(new.prompt)
        if version is None:
            if state is not None:
                raise NothingToServe(name=new.prompt)
            raise StorageAway("the database does not answer and there is no fallback for this prompt")
        return Assignment(
            prompt=new.prompt,
            prompt_id=state.prompt_id if state else None,
            unit_id=new.unit_id,
            version=version,
            segment=new.segment,
            reason="DEFAULT",
            assigned_at=self._clock(),
        )

    async def _record(self, proposal: Assignment) -> Assignment | None:
        if proposal.prompt_id is None:
            self._keep_for_later(proposal)
            return None
        try:
            async with self._database.writing() as connection:
                return await assign(connection, proposal)
        except Exception as error:
            self._keep_for_later(self._stale(proposal))
            if is_storage_away(error):
                self._last_known.note_away(error)
            else:
                log("assignment_not_recorded", level="error", error=error)
            return None

    def _answer_late(self, proposal: Assignment) -> Assignment:
        late = self._stale(proposal)
        self._keep_for_later(late)
        return self._remember(late)

    def _stale(self, proposal: Assignment) -> Assignment:
        late = proposal if proposal.reason == "DEFAULT" else msgspec.structs.replace(proposal, reason="STALE")
        return self._remember(late)

    def _keep_for_later(self, assignment: Assignment) -> None:
        if len(self.backlog) == self.backlog.maxlen:
            self.dropped += 1
            if self.dropped == 1:
                log("backlog_full", level="error", size=len(self.backlog))
        self.backlog.append(assignment)

    def _remember(self, assignment: Assignment) -> Assignment:
        self._given[assignment.prompt, assignment.unit_id] = assignment
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)
        return assignment

    def _with_text(self, recorded: Assignment, proposal: Assignment) -> Assignment:
        """A unit recorded without a stored version (fallback, import) gets today's text."""
        if recorded.version.id is not None:
            return recorded
        version = self._fallbacks.get(recorded.prompt, proposal.version)
        return msgspec.structs.replace(recorded, version=version)

    async def record_backlog(self) -> None:
        """Record what was given while the database was away; keeps what cannot be recorded yet."""
        while self.backlog and not self._last_known.is_away:
            batch = [self.backlog.popleft() for _ in range(min(LATE_BATCH, len(self.backlog)))]
            try:
                await self._record_late(batch)
            except Exception as error:
                if is_storage_away(error):
                    self.backlog.extendleft(reversed(batch))
                    self._last_known.note_away(error)
                elif len(batch) > 1:
                    # One bad assignment must not hold up the others: find it by going one by one.
                    await self._record_singly(batch)
                else:
                    log("late_assignment_lost", level="error", error=error)

    async def _record_singly(self, batch: list[Assignment]) -> None:
        for item in batch:
            try:
                await self._record_late([item])
            except Exception as error:
                if is_storage_away(error):
                    self.backlog.append(item)
                else:
                    log("late_assignment_lost", level="error", error=error)

    async def _record_late(self, batch: list[Assignment]) -> None:
        async with self._database.writing() as connection:
            ids = await find_prompt_ids(connection, sorted({item.prompt for item in batch}))
            known = [
                msgspec.structs.replace(item, prompt_id=ids[item.prompt])
                for item in batch
                if item.prompt in ids
            ]
            differing = await record_late(connection, known) if known else []
        if len(known) < len(batch):
            log("late_assignments_of_unknown_prompts", level="warning", number=len(batch) - len(known))
        if differing:
            log("late_assignments_differ", level="warning", number=len(differing))

    async def drain(self) -> None:
        """Wait for the queries under way, then record the backlog once more; for the shutdown."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        await self.record_backlog()
