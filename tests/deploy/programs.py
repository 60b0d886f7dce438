"""Programs that some tests need beside Python: PostgreSQL's come with its wheel, others from the system."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Postgres


def postgres_program(server: Postgres, name: str, *arguments: str, **more: Any) -> str:
    """Run a client program of the tests' PostgreSQL; what it said."""
    path = server.bin / name
    if not path.exists():
        pytest.skip(f"no {name} in {server.bin}")
    done = subprocess.run(
        [path, "-h", "127.0.0.1", "-p", str(server.port), "-U", "test", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **more,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def system_program(name: str) -> Path:
    """A program of the system, or the test is skipped."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(found)
