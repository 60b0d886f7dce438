"""One real server for all stories that differ only in their prompt: starting one takes seconds."""

import uuid
from collections.abc import Iterator

import pytest

from tests.running_server import RunningServer


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server process on SQLite; take a `prompt` of your own."""
    folder = tmp_path_factory.mktemp("server")
    # These stories are about answers, not about deadlines.
    patient = {"PROMPTBANDIT_SOFT_DEADLINE_MS": "30000", "PROMPTBANDIT_OUTCOME_DEADLINE_MS": "30000"}
    with RunningServer(f"sqlite:///{folder / 'test.db'}", folder, environment=patient) as running:
        yield running


@pytest.fixture
def prompt() -> str:
    """A name that no other test uses, for a prompt and its experiment."""
    return f"support-{uuid.uuid4().hex[:12]}"
