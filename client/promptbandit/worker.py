"""The one background thread of a client: an event loop with the connections and the sender.

A caller waits for it with a deadline and then goes on without it. The request is not cancelled at that
moment: a server that needs 350 ms would see every connection break and be opened again, which is what it
needs least. It may end within `LEFT_BEHIND_S`; then its connection is closed.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from concurrent.futures import CancelledError, Future

from promptbandit.outbox import Outbox
from promptbandit.sender import Sender
from promptbandit.transport import Answer, Transport, Unreachable, load_lazy_modules

LEFT_BEHIND_S = 2.0
STOP_S = 1.0


class Worker:
    """Starts its thread at the first use, so that a client may be made before its process forks."""

    def __init__(self, base_url: str, key: str, ssl_context: ssl.SSLContext, outbox: Outbox) -> None:
        self._base_url = base_url
        self._key = key
        self._ssl_context = ssl_context
        self._outbox = outbox
        self._lock = threading.Lock()
        self._life: _Life | None = None
        self._stopped = False
        load_lazy_modules()

    def ask(self, path: str, body: bytes, *, wait_s: float) -> Answer:
        """POST `body` and wait `wait_s` seconds for the answer, at most; else Unreachable."""
        deadline = time.monotonic() + wait_s
        try:
            future = self._post(path, body, wait_s)
        except RuntimeError as error:  # no thread to be had: too many of them, or the interpreter ends
            raise Unreachable(str(error)) from error
        try:
            return future.result(deadline - time.monotonic())
        except TimeoutError:
            raise Unreachable(f"no answer within {wait_s:g} s") from None
        except CancelledError:
            raise Unreachable("the client was closed meanwhile") from None

    def _post(self, path: str, body: bytes, wait_s: float) -> Future[Answer]:
        with self._lock:
            life = self._living()
            if life is None:
                raise Unreachable("the client is closed")
            timeout_s = max(wait_s, LEFT_BEHIND_S)
            request = life.transport.ask(path, body, queue_s=wait_s, timeout_s=timeout_s)
            return asyncio.run_coroutine_threadsafe(request, life.loop)

    def wake_sender(self) -> None:
        """Say that the outbox holds something."""
        # Where no thread is to be had, the outcome waits for the next one's.
        with contextlib.suppress(RuntimeError), self._lock:
            life = self._living()
            if life is not None:
                life.loop.call_soon_threadsafe(life.sender.wake)

    def _living(self) -> "_Life | None":
        if self._stopped:
            return None
        # A thread does not survive a fork: the child starts its own, with connections of its own.
        if self._life is None or not self._life.thread.is_alive():
            transport = Transport(self._base_url, self._key, self._ssl_context)
            self._life = _Life(transport, Sender(self._outbox, transport))
            self._life.thread.start()
        return self._life

    def stop(self) -> None:
        """Cancel what is under way, close the connections and end the thread; for good."""
        with self._lock:
            self._stopped = True
            life = self._life
            if life is None or not life.thread.is_alive():
                return
            life.loop.call_soon_threadsafe(life.stopping.set)
        life.thread.join(STOP_S)


class _Life:
    """The thread from its start to its end, and what belongs to its loop."""

    def __init__(self, transport: Transport, sender: Sender) -> None:
        self.transport = transport
        self.sender = sender
        self.stopping = asyncio.Event()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self._runner.get_loop()
        # A daemon, for a process must end even if a host name is being looked up for a minute.
        self.thread = threading.Thread(target=self._main, name="promptbandit", daemon=True)

    def _main(self) -> None:
        with self._runner:
            self._runner.run(self._serve())

    async def _serve(self) -> None:
        sending = asyncio.create_task(self.sender.run())
        await self.stopping.wait()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(sending, *under_way, return_exceptions=True)
        await self.transport.close()
