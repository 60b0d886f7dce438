"""Transcripts on their way in: redacted in a thread, before the outcome waits for its transaction.

Behind this there is no raw transcript: not in the queue, not in the database, not in a log.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from api.log import log
from api.metrics import ServerMetrics
from api.problems import StorageAway
from domain.outcomes import NewOutcome
from domain.redaction import RedactedTranscript, Redactor
from service.transcripts import Told, redacted, without_raw

MAX_WAITING = 100  # requests with transcripts; more are told at once to come back


class Redacting:
    """One thread for all transcripts: the server answers calls meanwhile.

    Parameters
    ----------
    within_s : how long a request waits for its transcripts.
    caller_key : secret by which callers are hashed.
    """

    def __init__(
        self, redactor: Redactor, metrics: ServerMetrics, *, within_s: float, caller_key: str = ""
    ) -> None:
        self._redactor = redactor
        self._caller_key = caller_key
        self._metrics = metrics
        self._within_s = within_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="redaction")
        self._waiting = 0

    async def clean(self, outcomes: Sequence[NewOutcome]) -> list[Told]:
        """The outcomes with redacted transcripts.

        An outcome whose transcript cannot be redacted goes on without it: it counts, and it is no secret.

        Raises
        ------
        StorageAway : too many are waiting, or it takes too long; nothing was stored.
        """
        if all(outcome.transcript is None for outcome in outcomes):
            return [Told(without_raw(outcome)) for outcome in outcomes]
        if self._waiting >= MAX_WAITING:
            raise StorageAway("too many transcripts are waiting to be redacted; send the outcomes again")
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._redact_all, outcomes)
        work.add_done_callback(self._done)
        await asyncio.wait([work], timeout=self._within_s)
        if not work.done():
            raise StorageAway("the transcripts were not redacted in time; send the outcomes again")
        return work.result()

    def _done(self, work: "asyncio.Future[list[Told]]") -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # whoever stopped waiting was told so

    def _redact_all(self, outcomes: Sequence[NewOutcome]) -> list[Told]:
        return [Told(without_raw(outcome), self._redact(outcome)) for outcome in outcomes]

    def _redact(self, outcome: NewOutcome) -> RedactedTranscript | None:
        if outcome.transcript is None:
            return None
        try:
            done = redacted(self._redactor, outcome, caller_key=self._caller_key)
        except Exception as error:
            log("redaction_failed", level="error", error=error)
            done = None
        self._metrics.transcripts.labels("failed" if done is None else "redacted").inc()
        return done

    def close(self) -> None:
        """Let the thread go; nobody waits for it any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
