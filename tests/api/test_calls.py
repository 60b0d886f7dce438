"""The calls of an experiment as CSV, Parquet or an Arrow stream, by `?format=` or by `Accept`."""

import io
from pathlib import Path

import httpx
import polars as pl
import pyarrow as pa
import pytest

from api.problems import RequestProblem
from api.routes.calls import accepted
from tests.api.test_experiment_stories import start
from tests.running_server import RunningServer

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"


def read(answer: httpx.Response) -> pl.DataFrame:
    """By two libraries: polars its own Parquet, pyarrow the stream."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == PARQUET:
        return pl.read_parquet(answer.content)
    assert answer.headers["content-type"] == ARROW
    with pa.ipc.open_stream(io.BytesIO(answer.content)) as stream:
        return pl.DataFrame(stream.read_all())


def test_every_format_tells_the_same_calls(shared: RunningServer):
    start(shared, "formats")
    shared.assign("f-1", "formats", segment="Größe")
    shared.assign("f-2", "formats")
    shared.record("f-1", "formats", metrics={"quality": 0.5, "resolved": True})
    path = "/experiments/formats/calls"
    text = pl.read_csv(io.BytesIO(shared.manager.get(path).content)).sort("unit_id")
    for file_format, media_type in (("parquet", PARQUET), ("arrow", ARROW)):
        asked = [
            shared.manager.get(path, params={"format": file_format}),
            shared.manager.get(path, headers={"Accept": f"application/json, {media_type}"}),
        ]
        for answer in asked:
            assert answer.headers["content-type"] == media_type
            found = read(answer).sort("unit_id")
            assert found["unit_id"].to_list() == ["f-1", "f-2"]
            assert found["quality"].to_list() == [0.5, None]
            assert found["resolved"].to_list() == [1.0, None]
            assert found["segment"].to_list() == ["Größe", None]
            assert set(found["experiment"]) == {"formats"}
            for column in ("variant", "allocation", "probability", "reason"):
                assert found[column].to_list() == text[column].to_list()
            assert found.schema["assigned_at"] == pl.Datetime("us", "UTC")


def test_an_experiment_without_calls_is_an_empty_table(shared: RunningServer):
    start(shared, "formats-none")
    for file_format in ("parquet", "arrow"):
        found = read(shared.manager.get("/experiments/formats-none/calls", params={"format": file_format}))
        assert found.height == 0
        assert "quality" in found.columns


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "csv"),
        ("*/*", "csv"),
        ("application/json, */*;q=0.1", "csv"),
        ("text/*", "csv"),
        ("application/*", "parquet"),
        (f"{ARROW}, */*;q=0.1", "arrow"),
        (f"{PARQUET};q=0.5, {ARROW};q=0.8", "arrow"),
        (f"text/csv;q=0, {PARQUET.upper()}", "parquet"),
        (f"text/csv;q=x, {PARQUET};q=0.2", "parquet"),
    ],
)
def test_the_accept_header_chooses_by_its_weights(header: str, expected: str):
    """`text/csv` and `*/*` of the same weight: the first of ours; RFC 9110 leaves that to the server."""
    assert accepted(header) == expected


@pytest.mark.parametrize("header", ["application/json", "text/csv;q=0", ";;", "/"])
def test_a_header_that_takes_nothing_of_ours_is_refused(header: str):
    with pytest.raises(RequestProblem, match="Accept takes none of text/csv"):
        accepted(header)


def test_what_cannot_be_told_is_a_problem(shared: RunningServer):
    start(shared, "formats-wrong")
    path = "/experiments/formats-wrong/calls"
    refused = shared.manager.get(path, headers={"Accept": "application/json"})
    assert (refused.status_code, refused.json()["type"]) == (406, "/problems/not-acceptable")
    unknown = shared.manager.get(path, params={"format": "xlsx"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/format")
    missing = shared.manager.get("/experiments/nope/calls", params={"format": "arrow"})
    assert missing.status_code == 404


def test_a_server_without_pyarrow_says_what_to_install_and_still_tells_csv(tmp_path: Path):
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('hidden', name='pyarrow')")
    environment = {"PYTHONPATH": str(tmp_path)}
    url = f"sqlite:///{tmp_path / 'lean.db'}"
    with RunningServer(url, tmp_path, environment=environment) as server:
        start(server, "lean")
        answer = server.manager.get("/experiments/lean/calls", params={"format": "parquet"})
        assert (answer.status_code, answer.json()["type"]) == (501, "/problems/format-not-installed")
        assert "science" in answer.json()["detail"]
        assert server.manager.get("/experiments/lean/calls").text.startswith("unit_id,")
        exported = server.command("export", "lean", "--format", "parquet", "-o", str(tmp_path / "lake"))
        assert exported.returncode == 1
        assert "science" in exported.stderr
        assert "Traceback" not in exported.stderr
