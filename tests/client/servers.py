"""Tiny TCP servers on loopback that misbehave on purpose."""

import contextlib
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

from promptbandit import Client

CONTENT_HASH = "0" * 64
NOBODY_LISTENS = "http://127.0.0.1:1"  # a reserved port: every connection is refused


class TcpServer:
    """Runs `_serve` in a thread per connection; `connections` counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.stopping = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._handle, args=(connection,))
            self._open.append(connection)
            self._threads.append(thread)
            thread.start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._threads[0].join(10)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(10)


class FrozenServer(TcpServer):
    """Accepts, and never answers; `left` counts the connections that the client closed."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    def _serve(self, connection: socket.socket) -> None:
        while connection.recv(65_536):
            pass
        self.left += 1


class DrippingServer(TcpServer):
    """Sends `start`, then a byte every 20 ms without end: no single read ever times out."""

    def __init__(self, start: bytes) -> None:
        super().__init__()
        self._start = start

    def _serve(self, connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(self._start)
        while not self.stopping.wait(0.02):
            connection.sendall(b"x")


class ResettingServer(TcpServer):
    """Reads the request and resets the connection (RST, not FIN)."""

    def _serve(self, connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Request(NamedTuple):
    """What the server got; `body` is the decoded JSON."""

    path: str
    headers: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """What the server says; bytes are sent as they are, everything else as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})


class HttpServer(TcpServer):
    """Answers what `reply` returns (None: the connection is closed instead) and keeps the requests."""

    def __init__(self, reply: Callable[[Request], Reply | None]) -> None:
        super().__init__()
        self._reply = reply
        self.requests: list[Request] = []

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while line := stream.readline():
                request = _read(line.decode(), stream)
                self.requests.append(request)
                reply = self._reply(request)
                if reply is None:
                    return
                connection.sendall(_raw(reply))

    def bodies(self, path: str) -> list[Any]:
        """The bodies of the requests to one path, in their order."""
        return [request.body for request in self.requests if request.path == path]

    def delivered(self) -> list[list[str]]:
        """The units whose outcomes came, batch by batch."""
        return [[item["unit_id"] for item in body] for body in self.bodies("/outcomes")]


def _read(line: str, stream: Any) -> Request:
    headers = {}
    while (text := stream.readline().decode().strip()) != "":
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Request(line.split()[1], headers, json.loads(body) if body else None)


def _raw(reply: Reply) -> bytes:
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    lines = [f"HTTP/1.1 {reply.status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def assigned(request: Request, **more: Any) -> Reply:
    """A server's answer to `POST /assignments`."""
    version = {
        "id": 7,
        "number": 2,
        "name": request.body["prompt"],
        "system_prompt": "From the server.",
        "tools_config": [{"name": "lookup"}],
        "metadata": {"language": "en"},
        "content_hash": CONTENT_HASH,
    }
    answer = {
        "prompt": request.body["prompt"],
        "unit_id": request.body["unit_id"],
        "version": version,
        "experiment": "greeting",
        "variant": "b",
        "allocation": 5,
        "probability": 0.25,
        "reason": "SPLIT",
    }
    return Reply(200, answer | more)


def acknowledged(request: Request, statuses: Sequence[str] = ()) -> Reply:
    """A server's answer to `POST /outcomes`: everything accepted, or what `statuses` says."""
    told = statuses or ["accepted"] * len(request.body)
    items = zip(request.body, told, strict=True)
    return Reply(200, {"results": [{"unit_id": item["unit_id"], "status": status} for item, status in items]})


def problem(status: int, slug: str, detail: str, **headers: str) -> Reply:
    """A problem document."""
    body = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": detail}
    return Reply(status, body, {"Content-Type": "application/problem+json"} | headers)


def patient(url: str, key: str = "key", fallbacks: Any = None, **more: Any) -> Client:
    """A client for stories about answers, not about deadlines: a loaded machine changes nothing."""
    return Client(url, key, fallbacks, timeout_s=20.0, **more)


def in_turn(*replies: Callable[[Request], Reply | None] | Reply) -> Callable[[Request], Reply | None]:
    """One reply after the other; the last one stays."""
    left = list(replies)

    def reply(request: Request) -> Reply | None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        return chosen if isinstance(chosen, Reply) else chosen(request)

    return reply


@contextlib.contextmanager
def failing_log() -> Iterator[None]:
    """The client's logger with a handler that raises."""

    class Failing(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("disk full")

    handler = Failing()
    logger = logging.getLogger("promptbandit")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
