"""A real Prometheus for the tests, where one is installed."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.dashboards.grafana import DASHBOARDS
from tests.postgres import die_with_parent, free_port

PROGRAM = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
REASON = "prometheus and promtool are not installed (Debian: apt-get install prometheus)"
STARTUP_S = 60.0
ATTEMPTS = 5  # another process may take the port between looking and listening


class Prometheus:
    """Scrapes one server every two seconds by the configuration of the project, with the project's alert rules."""

    def __init__(self, folder: Path, *, target: str, key: str) -> None:
        assert PROGRAM is not None
        self._folder = folder
        self._log = folder / "prometheus.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(timeout=30.0, verify=False)
        (folder / "key").write_text(key + "\n")
        config = yaml.safe_load((DASHBOARDS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
        config["rule_files"] = [str(DASHBOARDS / "alerts.yml")]
        (job,) = config["scrape_configs"]
        job["authorization"]["credentials_file"] = str(folder / "key")
        job["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(json.dumps(config))

    def __enter__(self) -> Self:
        for _ in range(ATTEMPTS):
            port = free_port()
            self._client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
            self._process = self._start(port)
            if self._is_ready():
                return self
            self._stop()
        raise RuntimeError(f"prometheus did not start: {self._log.read_text()[-2000:]}")

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    str(PROGRAM),
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--storage.tsdb.retention.time=1h",
                ],
                cwd=self._folder,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded before
                stdout=log,
                stderr=log,
            )

    def _is_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + STARTUP_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self._client.get("/-/ready").status_code == 200:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now; an error of the expression fails the test."""
        answer = self._client.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert data["resultType"] == "vector"
        return list(data["result"])

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules and how their evaluation went."""
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _stop(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=30)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._stop()
