"""The group-by that a report is measured against computes the sums that the report needs, and no fewer."""

import pytest

from benchmarks.frames import ARMS, ROWS, bare, frame, ours, study


def test_the_limit_computes_the_sums_that_a_report_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ROWS, "2000")
    events = frame()
    counts = study().count(events)
    found = {row["variant"]: row for row in bare(events)().rows(named=True)}
    assert sorted(found) == list(ARMS)
    assert len(counts.cells) == 3 * 4
    for (place, metric), cell in counts.cells.items():
        row = found[place.arm]
        if metric == "assigned":
            assert cell.n == row["len"]
            continue
        assert cell.n == row[f"{metric}_n"]
        assert cell.total == pytest.approx(row[metric], rel=1e-12)
        squares = row[metric if metric == "resolved" else f"{metric}_sq"]  # true and false are their own
        assert cell.total_sq == pytest.approx(squares, rel=1e-12)
    assert len(ours(events)()["comparisons"]) == 3 * 2
