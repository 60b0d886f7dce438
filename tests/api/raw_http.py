"""Requests that no HTTP client would send: bytes on a socket."""

import socket
import time
from typing import NamedTuple

from tests.running_server import RunningServer

PATIENCE_S = 20.0


class RawAnswer(NamedTuple):
    """`status` is None where the connection ended without an answer."""

    status: int | None
    headers: dict[str, str]
    body: bytes


def request_bytes(
    method: str,
    path: str,
    headers: dict[str, str] | list[tuple[str, str]],
    body: bytes = b"",
    host: bool = True,
) -> bytes:
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    lines = [f"{method} {path} HTTP/1.1", *(["Host: test"] if host else []), *(f"{k}: {v}" for k, v in pairs)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def exchange(server: RunningServer, sent: bytes, *, half_close: bool = False) -> RawAnswer:
    """Send bytes, read one answer."""
    with connect(server) as connection:
        connection.sendall(sent)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def drip(server: RunningServer, head: bytes, piece: bytes, *, every_s: float, at_most: int) -> RawAnswer:
    """Send a head, then a piece of the body again and again until the server answers or leaves."""
    with connect(server) as connection:
        connection.sendall(head)
        for _ in range(at_most):
            try:
                connection.sendall(piece)
                connection.settimeout(every_s)
                if connection.recv(1, socket.MSG_PEEK) == b"":
                    return RawAnswer(None, {}, b"")
                break
            except TimeoutError:
                continue
            except ConnectionError:
                return RawAnswer(None, {}, b"")
        connection.settimeout(PATIENCE_S)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> RawAnswer:
    """One answer with Content-Length; what ends before is no answer."""
    received = b""
    deadline = time.monotonic() + PATIENCE_S
    try:
        while b"\r\n\r\n" not in received or not _is_whole(received):
            piece = connection.recv(65_536)
            if not piece or time.monotonic() > deadline:
                break
            received += piece
    except ConnectionError:
        pass
    if b"\r\n\r\n" not in received:
        return RawAnswer(None, {}, received)
    status, headers, body = _parsed(received)
    return RawAnswer(status, headers, body)


def _parsed(received: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, value in pairs}, body


def _is_whole(received: bytes) -> bool:
    _, headers, body = _parsed(received)
    return len(body) >= int(headers.get("content-length", "0"))
