"""A real server process: `promptbandit serve` on a free port."""

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from domain.keys import Scope
from tests.commands import Lasting, run_command, start_command
from tests.made_keys import make_keys
from tests.postgres import free_port

STARTUP_S = 90.0


class RunningServer:
    """`url`, keys by scope, and an `httpx.Client` that holds a manager's key."""

    def __init__(
        self, database_url: str, folder: Path, *, workers: int = 1, environment: dict[str, str] | None = None
    ) -> None:
        self.database_url = database_url
        self.folder = folder
        self.workers = workers
        self.log = folder / "server.log"
        self._extra = environment or {}
        self._keys: dict[str, str] = {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | Lasting | None = None
        # Plain HTTP: without certificates to load a client is made 100 times faster.
        self.manager = httpx.Client(base_url=self.url, timeout=30.0, verify=False)

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTBANDIT_")}
        return clean | {"PROMPTBANDIT_DATABASE_URL": self.database_url} | self._extra

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `promptbandit ...` on the same database."""
        return run_command(*arguments, environment=self.environment)

    def key(self, scope: Scope) -> str:
        """A key of this scope."""
        if scope not in self._keys:
            with ThreadPoolExecutor(1) as thread:  # whoever asks may have an event loop of its own
                made = thread.submit(lambda: asyncio.run(make_keys(self.database_url, {scope: scope})))
                self._keys |= made.result()
        return self._keys[scope]

    def take_keys(self, keys: dict[str, str]) -> None:
        """Use keys that were made on this database already."""
        self._keys |= keys

    def client(self, scope: Scope | None) -> httpx.Client:
        """A new client with a key of this scope; close it."""
        headers = {"Authorization": f"Bearer {self.key(scope)}"} if scope else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, verify=False)

    def launch(self) -> subprocess.Popen[bytes] | Lasting:
        """The process. A worker of several is made by its supervisor, as Python makes processes: from scratch."""
        command = ["serve", "--port", str(self.port), "--workers", str(self.workers)]
        if self.workers == 1 and sys.platform == "linux":
            return start_command(*command, environment=self.environment, log=self.log)
        return self.from_scratch("-m", "cli", *command)

    def from_scratch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A Python that has imported nothing yet."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments], env=self.environment, stdout=log, stderr=log
            )

    def start(self, *, ready: bool = True) -> None:
        self._process = self.launch()
        deadline = time.monotonic() + STARTUP_S
        path = "/health/ready" if ready else "/health/live"
        while True:
            try:
                if httpx.get(self.url + path, timeout=2.0, verify=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=STARTUP_S)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=30)

    def __enter__(self) -> "RunningServer":
        self.manager.headers["Authorization"] = f"Bearer {self.key('manager')}"
        self.start()
        # Whoever measures how long calls take does not measure how numpy loads.
        self.manager.get("/experiments/none/report")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.manager.close()
        self.stop()

    # --- shortcuts for stories -------------------------------------------------------------------

    def create_version(self, name: str = "support", text: str = "Be kind.", **more: Any) -> dict[str, Any]:
        answer = self.manager.post("/prompts", json={"name": name, "system_prompt": text, **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def start_experiment(self, key: str = "greeting", prompt: str = "support", **more: Any) -> dict[str, Any]:
        """An experiment with two fresh versions of `prompt`, or what `more` says."""
        if "variants" not in more:
            texts = [f"{key} variant {name}" for name in ("a", "b")]
            ids = [self.create_version(prompt, text)["id"] for text in texts]
            more["variants"] = [{"key": k, "version_id": i} for k, i in zip("ab", ids, strict=True)]
        body = {"key": key, "prompt": prompt, "control": "a", **more}
        answer = self.manager.post("/experiments", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def assign(self, unit_id: str, prompt: str = "support", **more: Any) -> dict[str, Any]:
        answer = self.manager.post("/assignments", json={"prompt": prompt, "unit_id": unit_id, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def record(self, unit_id: str, prompt: str = "support", *, metrics: dict[str, Any], **more: Any) -> str:
        """Tell one outcome; its status."""
        body = {"prompt": prompt, "unit_id": unit_id, "metrics": metrics, **more}
        answer = self.manager.post("/outcomes", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["results"][0]["status"])
