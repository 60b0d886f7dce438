"""A server on loopback that speaks the Messages API and its batches, by a script: for tests and the demo.

It needs no network and no key, keeps what it was asked (never the key), and answers by a `Behaviour`.
"""

import contextlib
import json
import select
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

import msgspec

from domain.fields import Record
from optimizer.local_replies import Behaviour, Reply, as_json, error

PATH = "/v1/messages"
BATCHES = "/v1/messages/batches"


class Asked(Record, frozen=True, kw_only=True):
    """A request as it came; of the key only that there was one."""

    method: str
    path: str
    headers: dict[str, str]
    has_key: bool
    body: Any


class Batch(Record, frozen=True, kw_only=True):
    """A batch and the replies that its requests got."""

    id: str
    replies: dict[str, Reply]


class LocalProvider:
    """`with LocalProvider(good_analyst) as local:` and `local.url` is the base URL.

    `polls` is how often a batch is asked for before it has ended; `results_at` is where it claims its results
    to be. `on_the_way` answers in the place of the API, as a proxy does, where it gives a reply.
    """

    def __init__(self, behaviour: Behaviour, *, polls: int = 1, results_at: str | None = None) -> None:
        self.behaviour = behaviour
        self.polls = polls
        self.results_at = results_at
        self.on_the_way: Callable[[Asked], Reply | None] = lambda _: None
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        self._batches: dict[str, Batch] = {}
        self._polled: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        """Serve from a thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no thread and no socket behind."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def questions(self) -> list[Any]:
        """The bodies of all requests for a message, those within batches too, in their order."""
        bodies = [item.body for item in self.asked if item.method == "POST"]
        return [
            question
            for body in bodies
            for question in ([r["params"] for r in body["requests"]] if "requests" in body else [body])
        ]

    def answer(self, asked: Asked) -> Reply:
        """What a request gets."""
        with self._lock:  # behaviours may be scripts that count
            self.asked.append(asked)
            instead = self.on_the_way(asked)
            if instead is not None:
                return instead
            if not asked.has_key:
                return error(401, "authentication_error", "no key")({})
            if (asked.method, asked.path) == ("POST", PATH):
                return self.behaviour(asked.body)
            if (asked.method, asked.path) == ("POST", BATCHES):
                return self._take(asked.body)
            if asked.method == "GET" and asked.path.startswith(f"{BATCHES}/"):
                return self._tell(*asked.path.removeprefix(f"{BATCHES}/").partition("/")[::2])
            return error(404, "not_found_error", f"no {asked.method} {asked.path} here")({})

    def _take(self, body: Mapping[str, Any]) -> Reply:
        replies = {item["custom_id"]: self.behaviour(item["params"]) for item in body["requests"]}
        batch = Batch(id=f"msgbatch_local_{len(self._batches) + 1}", replies=replies)
        self._batches[batch.id] = batch
        self._polled[batch.id] = 0
        return as_json(200, self._document(batch, has_ended=False))

    def _tell(self, batch_id: str, what: str) -> Reply:
        batch = self._batches.get(batch_id)
        if batch is None:
            return error(404, "not_found_error", f"no batch {batch_id}")({})
        if what == "results":
            # The real API promises no order.
            lines = [_result(name, reply) for name, reply in reversed(batch.replies.items())]
            return Reply(body="".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode())
        self._polled[batch_id] += 1
        return as_json(200, self._document(batch, has_ended=self._polled[batch_id] > self.polls))

    def _document(self, batch: Batch, *, has_ended: bool) -> dict[str, Any]:
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if has_ended else "in_progress",
            "request_counts": {"processing": 0 if has_ended else len(batch.replies)}
            | dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0),
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z",
            "results_url": f"{self.results_at or self.url}{BATCHES}/{batch.id}/results"
            if has_ended
            else None,
        }


def _result(name: str, reply: Reply) -> dict[str, Any]:
    if reply.kind != "answers":
        return {"custom_id": name, "result": {"type": "canceled" if reply.kind == "canceled" else "expired"}}
    value = json.loads(reply.body)
    told = (
        {"type": "succeeded", "message": value}
        if reply.status == 200
        else {"type": "errored", "error": value}
    )
    return {"custom_id": name, "result": told}


class _Server(socketserver.ThreadingTCPServer):
    """Plain TCP: the HTTP server of the standard library asks the name service for its own name first."""

    allow_reuse_address = True
    request_queue_size = 128
    daemon_threads = False

    def __init__(self, provider: LocalProvider) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that leaves is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.0"  # one request a connection: no thread waits for a second one

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): text for name, text in self.headers.items()}
        keys = [headers.pop("authorization", ""), headers.pop("x-api-key", "")]
        asked = Asked(
            method=self.command,
            path=self.path.partition("?")[0],
            headers=headers,
            has_key=any(keys),
            body=msgspec.json.decode(body) if body else None,
        )
        reply = self.server.provider.answer(asked)
        if reply.kind == "answers":
            self._say(reply)
        elif reply.kind in ("hangs", "drips"):
            self._never_end(drips=reply.kind == "drips")

    def _say(self, reply: Reply, *, length: int | None = None) -> None:
        with contextlib.suppress(OSError):
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(reply.body) if length is None else length))
            self.end_headers()
            self.wfile.write(reply.body)

    def _never_end(self, *, drips: bool) -> None:
        with contextlib.suppress(OSError):
            if drips:
                self._say(Reply(headers={"content-type": "application/json"}), length=10**9)
            while not self.server.provider.stopping.is_set():
                readable, _, _ = select.select([self.connection], [], [], 0.05)
                if readable:  # the caller closed: nothing else can come
                    return
                if drips:
                    self.wfile.write(b" ")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Nothing: standard error belongs to the command that runs us."""
