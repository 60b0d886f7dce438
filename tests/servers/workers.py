"""One connection to each worker of a server: which worker took it is read from /proc."""

import contextlib
import http.client
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.running_server import RunningServer

PATIENCE_S = 120.0
PAUSE_S = 0.2  # a worker that starts needs the processor more than we do


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(part) for part in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Wire:
    """A connection that stays with the worker that took it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._connection.connect()
        self.own_port = int(self._connection.sock.getsockname()[1])

    def ask(self, method: str, path: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
        """Status and answer; OSError or HTTPException when the connection has ended."""
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.getheader("Connection", "").lower() == "close":
            raise http.client.HTTPException("the server ends the connection")
        return answer.status, json.loads(text)

    def close(self) -> None:
        self._connection.close()


class Worker:
    """A worker process of a server, asked again and again; a connection that idled too long is made anew."""

    def __init__(self, server: RunningServer, pid: int, wire: Wire) -> None:
        self.pid = pid
        self._server = server
        self._wire = wire

    def ask(self, method: str, path: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
        """What this worker answers."""
        try:
            return self._wire.ask(method, path, key, body)
        except (OSError, http.client.HTTPException):
            self._wire.close()
            found = connect(self._server, {self.pid})
            self._wire = found[self.pid]
            return self._wire.ask(method, path, key, body)

    def close(self) -> None:
        self._wire.close()


class Workers:
    """Every worker of some servers; `with Workers(servers) as workers`."""

    def __init__(self, servers: list[RunningServer]) -> None:
        self._servers = servers
        self._workers: list[Worker] = []

    def __enter__(self) -> list[Worker]:
        for server in self._servers:
            for pid, wire in connect(server, wanted=server.workers).items():
                self._workers.append(Worker(server, pid, wire))
        return self._workers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.close()


def pids_of(server: RunningServer) -> set[int]:
    """The workers that answer."""
    found = connect(server, server.workers)
    for wire in found.values():
        wire.close()
    return set(found)


def connect(server: RunningServer, wanted: int | set[int]) -> dict[int, Wire]:
    """A connection to each of so many workers, or to those with these pids. Which one takes a connection
    is the kernel's choice, so we try until all are found."""
    found: dict[int, Wire] = {}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # Some at once, so that no worker is quick enough to take them all.
        some = [Wire(server.port) for _ in range(8)]
        for wire, pid in zip(some, _owners(server, some), strict=True):
            if pid is None or pid in found or (isinstance(wanted, set) and pid not in wanted):
                wire.close()
            else:
                found[pid] = wire
        if len(found) == (len(wanted) if isinstance(wanted, set) else wanted):
            return found
        if time.monotonic() > deadline:
            for wire in found.values():
                wire.close()
            raise AssertionError(f"of {wanted} workers only {sorted(found)} took a connection")
        time.sleep(PAUSE_S)


def _owners(server: RunningServer, wires: list[Wire]) -> list[int | None]:
    """For each connection the worker that has accepted it; None when it has ended."""
    accepted = {wire.own_port for wire in wires if _is_alive(wire)}
    sockets = _sockets(server.port)
    holders = _holders(server.pid)
    return [
        holders.get(sockets.get(wire.own_port, "")) if wire.own_port in accepted else None for wire in wires
    ]


def _is_alive(wire: Wire) -> bool:
    try:
        wire.ask("GET", "/health/live")
    except (OSError, http.client.HTTPException):
        return False
    return True


def _sockets(port: int) -> dict[int, str]:
    """The server's ends of the connections to this port, by the port of the other end."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(cells[2].rpartition(":")[2], 16): f"socket:[{cells[9]}]"
        for cells in rows
        if cells[1].endswith(f":{port:04X}")
    }


def _holders(parent: int) -> dict[str, int]:
    """Which child of this process holds which socket."""
    found: dict[str, int] = {}
    for pid in children(parent):
        with contextlib.suppress(OSError):  # it has ended, or a file was closed while we looked
            found |= {str(link.readlink()): pid for link in Path(f"/proc/{pid}/fd").iterdir()}
    return found
