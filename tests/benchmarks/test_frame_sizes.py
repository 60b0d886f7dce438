"""Parts of a frame as files: every engine finds the same sums in them, and the parts are deleted at the end."""

import os
from pathlib import Path

import polars as pl
import pytest

from benchmarks import frame_sizes
from benchmarks.frames import bare, study


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two whole files and a third of one."""
    monkeypatch.setattr(frame_sizes, "PART", 300)
    monkeypatch.setenv(frame_sizes.FOLDER, str(tmp_path))
    frame_sizes.write(tmp_path, 700)
    return tmp_path


def test_every_engine_finds_the_sums_of_a_report_in_the_parts(parts: Path):
    whole = pl.read_parquet(parts / "*.parquet")
    assert whole.height == 700
    assert len(frame_sizes.parts(600)) == 2
    wanted = {row["variant"]: row for row in bare(whole, engine="in-memory")().rows(named=True)}
    by_sql = frame_sizes.bare_duckdb(frame_sizes.related(700))()
    names = ["len", "resolved_n", "resolved"]
    names += [name + part for name in ("quality", "duration_s") for part in ("_n", "", "_sq")]
    for arm, *sums in by_sql:
        assert sums == pytest.approx([wanted[arm][name] for name in names], rel=1e-12)
    assert len(by_sql) == len(wanted) == 3
    for frame in (frame_sizes.in_memory(700), frame_sizes.scanned(700), frame_sizes.related(700)):
        for (place, metric), cell in study().count(frame).cells.items():
            row = wanted[place.arm]
            assert cell.n == row["len" if metric == "assigned" else f"{metric}_n"]
            if metric != "assigned":
                assert cell.total == pytest.approx(row[metric], rel=1e-12)


def test_the_parts_are_deleted_whatever_happens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(frame_sizes.ROWS, "10")
    monkeypatch.setenv(frame_sizes.FOLDER, "")
    monkeypatch.delenv(frame_sizes.FOLDER)  # set anew by what is tested, and undone after it
    seen: list[Path] = []

    def asked(_question: object) -> None:
        folder = Path(os.environ[frame_sizes.FOLDER])
        assert len(list(folder.iterdir())) == 1
        seen.append(folder)
        raise SystemExit

    monkeypatch.setattr(frame_sizes, "main", asked)
    with pytest.raises(SystemExit):
        frame_sizes.with_parts(frame_sizes.QUESTION)
    assert not seen[0].exists()
