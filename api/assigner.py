"""Every call gets a prompt: from the database in time, else from memory, else from the fallback file.

Two-stage deadline: we stop waiting for the database, we do not cancel it. A cancelled query costs its
connection, and reconnecting is what a database under load needs least; so a late query goes on and
records its assignment, or fails and leaves it to the backlog.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from api.backlog import Backlog
from api.clock import Clock
from api.group_commit import GroupCommit
from api.last_known import LastKnown
from api.log import log
from api.problems import StorageAway
from api.settings import Settings
from domain.assignments import Assignment, NewAssignment
from domain.errors import NothingToServe, PromptNotFound
from domain.prompts import ServedVersion
from domain.snapshot import PromptState, derive
from service.assign import assign
from storage.away import is_storage_away
from storage.database import Database

REMEMBERED = 50_000
DRAIN_S = 5.0

LARGEST = 200  # assignments of a transaction: it bounds how long their locks are held

_Key = tuple[str, str]  # prompt and unit


@dataclass(frozen=True, slots=True)
class _Recording:
    """A proposal on its way into the database; `answer` is what stands after the commit."""

    proposal: Assignment
    answer: asyncio.Future[Assignment]


class Assigner:
    """Answers `POST /assignments`: calls that arrive together share a transaction.

    Parameters
    ----------
    calls : connections of which it takes two; the recorder and the backlog have the others.
    fallbacks : versions by prompt name, for prompts of which nothing else is known.
    """

    def __init__(
        self,
        calls: Database,
        last_known: LastKnown,
        backlog: Backlog,
        fallbacks: dict[str, ServedVersion],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._last_known = last_known
        self._backlog = backlog
        self._fallbacks = fallbacks
        self._patience_s = settings.soft_deadline_ms / 1000
        self._max_in_flight = settings.max_in_flight
        self._clock = clock
        self._given: OrderedDict[_Key, Assignment] = OrderedDict()
        self._recordings: dict[_Key, _Recording] = {}
        self._groups = GroupCommit(self._store, largest=LARGEST, most_waiting=settings.max_in_flight)
        self._refreshes: set[asyncio.Task[bool]] = set()  # asyncio forgets tasks that nobody holds

    async def answer(self, new: NewAssignment) -> Assignment:
        """What the unit gets, within the soft deadline; the first answer stands for all later ones.

        Raises
        ------
        PromptNotFound, NothingToServe : the database says so, and no fallback was given.
        StorageAway : nothing is known of the prompt, the database is away, and no fallback was given.
        """
        until = time.monotonic() + self._patience_s
        key = new.prompt, new.unit_id
        if key in self._given:
            return self._given[key]
        proposal = await self._propose(new, until)
        recording = self._recordings.get(key)
        if recording is None:
            if not self._may_record(proposal):
                return self._answer_late(key, proposal)
            recording = self._record(key, proposal, until)
        await asyncio.wait({recording.answer}, timeout=max(0.0, until - time.monotonic()))
        if not recording.answer.done():
            self._last_known.doubt()
            return self._remember(key, _stale(recording.proposal))
        return self._remember(key, self._stands(recording) or _stale(recording.proposal))

    async def _propose(self, new: NewAssignment, until: float) -> Assignment:
        state = self._last_known.state(new.prompt)
        is_current = False
        if state is None and not self._last_known.is_away:
            # Somebody may have created it a moment ago, on another server.
            is_current = await self._refresh(until)
            state = self._last_known.state(new.prompt)
        if state is not None:
            proposal = derive(state, unit_id=new.unit_id, segment=new.segment, now=self._clock())
            if proposal is not None:
                return proposal
        return self._default(new, state, is_current=is_current)

    async def _refresh(self, until: float) -> bool:
        refresh = asyncio.create_task(self._last_known.refresh())
        self._refreshes.add(refresh)
        refresh.add_done_callback(self._refreshes.discard)
        await asyncio.wait({refresh}, timeout=max(0.0, until - time.monotonic()))
        return refresh.done() and refresh.result()

    def _default(self, new: NewAssignment, state: PromptState | None, *, is_current: bool) -> Assignment:
        version = self._fallbacks.get(new.prompt)
        if version is None:
            if state is not None:
                raise NothingToServe(name=new.prompt)
            if is_current:
                raise PromptNotFound(name=new.prompt)
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

    def _may_record(self, proposal: Assignment) -> bool:
        """Whether it is worth asking the database now; beyond the bulkhead calls do not queue."""
        is_free = not self._last_known.is_away and len(self._recordings) < self._max_in_flight
        return is_free and proposal.prompt_id is not None

    def _record(self, key: _Key, proposal: Assignment, until: float) -> _Recording:
        answer = self._groups.add(proposal, within_s=until - time.monotonic())
        recording = self._recordings[key] = _Recording(proposal, answer)
        answer.add_done_callback(lambda _: self._settle(key))
        return recording

    def _settle(self, key: _Key) -> None:
        """Remember what stands before anybody can ask anew; what is not known to be stored is stored later.

        Whoever came to its turn too late is one of them: a hundred late ones are one transaction.
        """
        recording = self._recordings.pop(key)
        stands = self._stands(recording)
        if stands is None:
            self._backlog.add(_stale(recording.proposal))
        self._remember(key, stands or _stale(recording.proposal))

    def _stands(self, recording: _Recording) -> Assignment | None:
        """What is recorded for the unit; None if that is not known."""
        answer = recording.answer
        if answer.cancelled() or answer.exception() is not None:
            return None
        return self._as_served(answer.result(), recording.proposal)

    async def _store(self, proposals: Sequence[Assignment]) -> list[Assignment]:
        if self._last_known.is_away:
            raise StorageAway
        began_at = time.monotonic()
        try:
            return await self._calls.write(lambda connection: assign(connection, list(proposals)))
        except Exception as error:
            self._last_known.note_failure(error, began_at=began_at)
            if len(proposals) == 1 and not is_storage_away(error):
                log("assignment_not_recorded", level="error", error=error)
            raise

    def _answer_late(self, key: _Key, proposal: Assignment) -> Assignment:
        late = _stale(proposal)
        if key not in self._given:
            self._backlog.add(late)
        return self._remember(key, late)

    def _remember(self, key: _Key, assignment: Assignment) -> Assignment:
        """What was answered first, whoever was quicker."""
        first = self._given.setdefault(key, assignment)
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)
        return first

    def _as_served(self, recorded: Assignment, proposal: Assignment) -> Assignment:
        """What stands, with the text to serve and without a copy of it for every unit.

        A unit recorded without a stored version (fallback, import) gets today's text.
        """
        if recorded.version.content_hash == proposal.version.content_hash:
            return msgspec.structs.replace(recorded, version=proposal.version)
        if recorded.version.id is not None:
            return recorded
        version = self._fallbacks.get(recorded.prompt, proposal.version)
        return msgspec.structs.replace(recorded, version=version)

    async def drain(self) -> None:
        """Record what waits; for the shutdown. The backlog, which ends last, gets what is left."""
        await self._groups.drain(within_s=DRAIN_S)


def _stale(proposal: Assignment) -> Assignment:
    return proposal if proposal.reason == "DEFAULT" else msgspec.structs.replace(proposal, reason="STALE")
