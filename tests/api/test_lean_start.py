"""A server answers calls before it loads what only reports and reallocations need."""

import asyncio
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from api import numerics
from tests.running_server import RunningServer

HEAVY = ("alembic", "jaxtyping", "mako", "numpy", "pyarrow", "rich", "scipy")
BUILD = f"""
import sys
from api.app import create_app
create_app()
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""
LOAD = """
import asyncio, sys
from api import numerics
asyncio.run(numerics.load_soon())
print(*(name for name in ("service.report", "service.reallocate") if name in sys.modules))
"""
LOADED_S = 60.0


def _said_by(code: str, folder: Path) -> list[str]:
    """The words that this code prints in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTBANDIT_")}
    url = f"sqlite:///{folder / 'lean.db'}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"PROMPTBANDIT_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_building_the_app_loads_nothing_that_calls_do_not_need(tmp_path: Path):
    assert _said_by(BUILD, tmp_path) == []


def test_a_moment_after_the_start_the_first_report_finds_everything_loaded(tmp_path: Path):
    assert _said_by(LOAD, tmp_path) == ["service.report", "service.reallocate"]


class FreshServer(RunningServer):
    """One that nothing was imported for."""

    def launch(self) -> subprocess.Popen[bytes]:
        return self.from_scratch("-m", "cli", "serve", "--port", str(self.port))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the libraries of another process")
def test_a_server_that_nobody_asks_loads_them_by_itself(sqlite_url: str, tmp_path: Path):
    server = FreshServer(sqlite_url, tmp_path)
    try:
        server.start()
        libraries = Path(f"/proc/{server.pid}/maps")
        deadline = time.monotonic() + LOADED_S
        while "scipy" not in libraries.read_text():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.05)
    finally:
        server.stop()
        server.manager.close()


async def test_many_who_wait_at_once_all_find_the_verbs():
    await asyncio.gather(*(numerics.loaded() for _ in range(8)))
    verbs = {name: getattr(numerics, name) for name in numerics.__all__}
    homes = {name: verb.__module__ for name, verb in verbs.items()}
    assert {name for name, home in homes.items() if home == "api.numerics"} == {"load_soon", "loaded"}
    for name, home in homes.items():
        assert getattr(import_module(home), name) is verbs[name]


def test_a_verb_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'assign'"):
        numerics.assign  # noqa: B018 - reading it is what fails


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"
