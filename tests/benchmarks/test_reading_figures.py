"""What the benchmarks read out of other programs, and how they write it down."""

import math
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from api.assigner import REMEMBERED
from benchmarks import commit_ways, ingestion, rivals, start_time
from benchmarks.load import CONNECTIONS, KINDS, Rate, next_unit, read_wrk
from benchmarks.memory_soak import SETTLED, after_warm_up, held_mib, memory_mib, processes, slope
from benchmarks.pgbench import STATEMENTS, read_pgbench, script
from benchmarks.rivals import rounded, spread, write_into_document

# wrk 4.1.0 against a server that answered everything, then against one that refused the key.
WRK = """\
Running 1s test @ http://127.0.0.1:53887
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.90ms    5.98ms  50.76ms   88.77%
    Req/Sec     1.03k   592.04     1.67k    60.00%
  1047 requests in 1.01s, 494.82KB read
Requests/sec:   1034.49
Transfer/sec:    488.91KB
RESULT {"requests":1047,"seconds":1.012093,"p50_ms":2.440,"p99_ms":30.368,"refused":0,"lost":0}
"""
WRK_REFUSED = """\
  1874 requests in 1.01s, 845.50KB read
  Non-2xx or 3xx responses: 1874
RESULT {"requests":1874,"seconds":1.007866,"p50_ms":1.025,"p99_ms":93.607,"refused":1874,"lost":0}
"""
# pgbench 16.14 and the beginning of its log; the last line is what it logs of a transaction that failed.
PGBENCH = """\
pgbench (16.14)
transaction type: script.sql
scaling factor: 1
query mode: prepared
number of clients: 4
number of threads: 1
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 1671
number of failed transactions: 0 (0.000%)
latency average = 2.374 ms
initial connection time = 13.509 ms
tps = 1685.224984 (without initial connection time)
"""
PGBENCH_LOG = """\
0 1 12931 0 1795714670 689171
1 1 24909 0 1795714670 702266
0 2 16292 0 1795714670 705495
3 1 20758 0 1795714670 705505
3 2 1363 0 1795714670 706882
0 3 failed 0 1795714670 707417
"""
SMAPS_ROLLUP = """\
55bf46869000-7ffeaae12000 ---p 00000000 00:00 0                          [rollup]
Rss:                1668 kB
Pss:                 181 kB
Pss_Dirty:           112 kB
Pss_Anon:            112 kB
Pss_File:             69 kB
Pss_Shmem:             8 kB
"""
MEASURED = ("ingestion", "ingestion_growth", "commit_ways", "start_time", "memory_soak")
NUMBERS = st.integers(-1_000_000, 1_000_000).map(lambda thousandths: thousandths / 1_000)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def test_what_wrk_prints_is_read():
    rate = read_wrk(WRK)
    assert (rate.requests, rate.p50_ms, rate.p99_ms, rate.refused, rate.lost) == (1047, 2.44, 30.368, 0, 0)
    assert rate.per_s == pytest.approx(1034.49, abs=0.01)  # wrk's own line
    assert read_wrk(WRK_REFUSED).refused == 1874


def test_wrk_without_a_result_is_an_error_that_shows_what_it_said():
    with pytest.raises(ValueError, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_next_load_begins_after_the_units_that_were_under_way():
    """Each connection may have had one request in flight, and one made in advance."""
    rate = Rate(requests=10, seconds=1.0, p50_ms=1.0, p99_ms=1.0)
    assert next_unit(rate, KINDS["an outcome"], 5) == 5 + 10 + 2 * CONNECTIONS
    assert next_unit(rate, KINDS["100 outcomes"], 5) == 5 + 100 * (10 + 2 * CONNECTIONS)


def test_what_pgbench_prints_and_logs_is_read():
    rate = read_pgbench(PGBENCH, PGBENCH_LOG.splitlines())
    assert (rate.requests, rate.lost) == (5, 1)
    assert rate.per_s == pytest.approx(1685.224984)
    assert (rate.p50_ms, rate.p99_ms) == (16.292, 24.909)  # the third and the last of five, by hand


def test_pgbench_without_a_transaction_is_an_error():
    with pytest.raises(ValueError, match="no transaction"):
        read_pgbench("pgbench: error: connection failed", [])


def test_every_pgbench_script_is_variables_and_one_statement():
    for statement, rows in STATEMENTS.values():
        *variables, last = script(statement).splitlines()
        assert all(line.startswith("\\set ") for line in variables)
        assert last.endswith(";")
        assert last.count(";") == 1
        assert rows in (1, 100)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=30, unique_by=lambda sample: round(sample[0]))
)
def test_the_slope_and_its_error_agree_with_scipy(samples):
    found, error = slope(samples)
    expected = linregress(*zip(*samples, strict=True))
    size = max(1.0, *(abs(y) for _, y in samples))
    assert found == pytest.approx(expected.slope, rel=1e-6, abs=1e-9 * size)
    assert error == pytest.approx(expected.stderr, rel=1e-4, abs=1e-6 * size)


def test_the_error_of_a_slope_covers_the_truth():
    """A frequency: the true slope lies within two standard errors in about 95 % of 400 noisy lines."""
    rng = np.random.default_rng(1)
    times = np.arange(60.0)
    inside = 0
    for _ in range(400):
        found, error = slope(list(zip(times, 3.0 + 0.25 * times + rng.normal(size=60), strict=True)))
        inside += abs(found - 0.25) < 2.0 * error
    assert 0.91 < inside / 400 < 0.985


def test_a_table_that_forgets_its_oldest_grows_once_more_when_it_is_full():
    """Why memory goes up by some MiB in the middle of a soak, and not again."""
    table: OrderedDict[int, None] = OrderedDict()
    sizes = {}
    for unit in range(6 * REMEMBERED):
        table[unit] = None
        if len(table) > REMEMBERED:
            table.popitem(last=False)
        sizes.setdefault(sys.getsizeof(table), unit)
    assert REMEMBERED < max(sizes.values()) <= SETTLED


def test_two_samples_tell_no_error():
    assert all(math.isnan(value) for value in slope([(0.0, 1.0), (1.0, 2.0)]))


@pytest.mark.parametrize(("per_s", "first_s"), [(1e9, 10.0), (87_500 / 15, 20.0), (1.0, 30.0)])
def test_the_warm_up_ends_when_the_table_of_remembered_units_has_its_size(per_s: float, first_s: float):
    """A quarter of the time at least, three fifths of it at most."""
    samples = [(float(second), 1.0) for second in range(0, 41, 10)]
    assert after_warm_up(samples, rate=per_s) == [sample for sample in samples if sample[0] >= first_s]
    assert after_warm_up([], rate=per_s) == []


def test_the_memory_of_a_process_is_its_share_of_what_has_no_file():
    assert held_mib(SMAPS_ROLLUP) == (112 + 8) / 1024
    with pytest.raises(ValueError, match="has 0 of the lines Pss_Anon:, Pss_Shmem:"):
        held_mib("Rss:  1668 kB\nPss:  181 kB\n")


@on_linux
def test_a_process_is_counted_with_those_that_it_started():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = processes(os.getpid())
        assert found[0] == os.getpid()
        assert child.pid in found
        assert memory_mib(os.getpid()) > memory_mib(child.pid) > 0.0
        child.communicate(b"\n")


@pytest.mark.parametrize(
    ("value", "written"), [(8_412.3, "8 410"), (1_234_567.0, "1 230 000"), (0.12345, "0.123"), (99.96, "100")]
)
def test_figures_have_three_digits(value, written):
    assert rounded(value) == written


def test_a_spread_is_median_least_and_most():
    assert spread([8_412.0, 9_017.0, 8_020.0]) == "8 410 (8 020 - 9 020)"


def test_a_table_is_written_between_its_markers_and_nowhere_else(tmp_path, monkeypatch):
    document = tmp_path / "benchmarks.md"
    document.write_text(
        "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter <!-- b: begin --><!-- b: end -->"
    )
    monkeypatch.setattr(rivals, "DOCUMENT", document)
    for _ in range(2):
        write_into_document("a", "| new |")
        expected = (
            "before\n<!-- a: begin -->\n| new |\n<!-- a: end -->\nafter <!-- b: begin --><!-- b: end -->"
        )
        assert document.read_text() == expected


def test_every_benchmark_has_its_place_in_the_document():
    text = rivals.DOCUMENT.read_text()
    for name in MEASURED:
        assert (Path(rivals.ROOT) / "benchmarks" / f"{name}.py").exists()
        begin, end = (text.index(f"<!-- {name}: {mark} -->") for mark in ("begin", "end"))
        assert begin < end


def test_the_table_of_ingestion_divides_by_ours_on_the_same_database_with_as_many_workers():
    def figures(per_s: float) -> dict[str, object]:
        rate = {"requests": int(per_s), "seconds": 1.0, "p50_ms": 1.0, "p99_ms": 2.0}
        return dict.fromkeys([*KINDS, "one plain row"], rate)

    rates = {
        "promptbandit, SQLite, 2 workers": 800.0,
        "promptbandit, PostgreSQL, 1 worker": 1_000.0,
        "plain FastAPI service, SQLite, 2 workers": 200.0,
        "pgbench": 3_000.0,
    }
    lines = ingestion.tables({name: [figures(per_s)] for name, per_s in rates.items()}).splitlines()
    last = {line.split(" | ")[0].strip("| "): line.split(" | ")[-1].strip(" |") for line in lines}
    assert last["promptbandit, SQLite, 2 workers"] == "1"
    assert last["plain FastAPI service, SQLite, 2 workers"] == "0.25"
    assert last["pgbench, an assignment"] == last["pgbench, one plain row"] == "3"


def test_tables_leave_out_what_was_not_measured():
    one = {str(clients): {"per_s": 10.0, "p50_ms": 1.0} for clients in commit_ways.CLIENTS}
    text = commit_ways.tables({"SQLite: group commit, one JSON text": [one]})
    assert "PostgreSQL" not in text
    assert "10 (10 - 10), 1 ms" in text
    assert "2 s" in start_time.tables({"SQLite, 1 worker": [{"seconds": 2.0}]})
