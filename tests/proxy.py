"""A TCP proxy on loopback that does to connections what networks do to them."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from tests.postgres import free_port

Mode = Literal["pass", "hold", "lose", "reset", "refuse"]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False, slots=True)
class _Link:
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    lost: bool = False


class Proxy:
    """Forwards `port` to `target_port` of this machine, in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._mode: Mode = "pass"
        self._delay_s = 0.0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open = asyncio.Event()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        self._open.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- faults ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """A partition: nothing passes and nobody hears of it; what was sent arrives after `heal`."""
        self._run(self._turn("hold"))

    def lose(self) -> None:
        """A partition after which the old connections are dead for ever, without a word (failover, NAT)."""
        self._run(self._turn("lose"))

    def reset(self) -> None:
        """Every connection is reset, new ones at once."""
        self._run(self._turn("reset"))

    def refuse(self) -> None:
        """Every connection is reset, new ones are refused."""
        self._run(self._turn("refuse"))

    def slow(self, delay_s: float) -> None:
        """Every packet takes `delay_s` more."""
        self._delay_s = delay_s

    def heal(self) -> None:
        """Pass everything again."""
        self._delay_s = 0.0
        self._run(self._turn("pass"))

    # --- inside ----------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _turn(self, mode: Mode) -> None:
        was, self._mode = self._mode, mode
        if mode == "hold":
            self._open.clear()
        else:
            self._open.set()
        for link in list(self._links):
            if mode in ("reset", "refuse"):
                _reset(link)
            elif mode == "lose":
                link.lost = True
        if mode == "refuse" and self._server is not None:
            self._server.close()
        elif was == "refuse":
            await self._listen()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(near=writer, lost=self._mode == "lose")
        self._links.add(link)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._mode == "reset":
                _reset(link)
                return
            await self._open.wait()
            far_reader, link.far = await asyncio.open_connection("127.0.0.1", self._target_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(link, reader, link.far))
                both.create_task(self._pump(link, far_reader, writer))
        except (OSError, ExceptionGroup):
            _reset(link)
        finally:
            self._links.discard(link)
            self._tasks.discard(task)
            for end in (link.near, link.far):
                if end is not None:
                    end.transport.abort()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(65_536)
            await self._open.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if link.lost:
                if not data:
                    return
                continue  # swallowed, the end of the connection, too
            if not data:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._open.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset(link: _Link) -> None:
    for end in (link.near, link.far):
        if end is not None and not end.transport.is_closing():
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()
