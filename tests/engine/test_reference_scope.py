"""Every reference case is run by a test that exists, or is out of scope for a reason."""

from itertools import product
from pathlib import Path

import pytest

from engine.beta_binomial import BetaPosterior, probability_best
from engine.statistics import BinaryCounts
from engine.thompson import top_two_split
from tests.engine.references import cases, reference
from tests.reference.scope import OUT_OF_SCOPE, RUN_BY

ROOT = Path(__file__).resolve().parents[2]


def kinds(name):
    """What the scope speaks of: an id in `paper_cases`, a category in the others."""
    content = reference(name)
    if isinstance(content, list):
        return {case["id"] for case in content}
    return {case["category"] for case in content["vectors"]} if "vectors" in content else set(content)


def entry(name, kind):
    """The list and the entry that cover a kind; the longest beginning of an id counts."""
    listed = [(len(key), key, where) for where in (RUN_BY, OUT_OF_SCOPE) for key in where[name]]
    fitting = [
        (length, key, where)
        for length, key, where in listed
        if kind == key or (name == "paper_cases" and kind.startswith(key))
    ]
    return max(fitting, key=lambda found: found[0], default=None)


@pytest.mark.parametrize("name", RUN_BY)
def test_no_case_is_forgotten(name):
    assert {kind for kind in kinds(name) if entry(name, kind) is None} == set()


@pytest.mark.parametrize("name", RUN_BY)
def test_no_entry_speaks_of_a_case_that_is_gone(name):
    used = {entry(name, kind)[1] for kind in kinds(name)}
    assert {*RUN_BY[name], *OUT_OF_SCOPE[name]} == used


@pytest.mark.parametrize("place", sorted({place for files in RUN_BY.values() for place in files.values()}))
def test_the_named_test_exists(place):
    path, test = place.split("::")
    assert f"def {test}(" in (ROOT / path).read_text()


def test_no_kind_is_in_both_lists():
    for name, key in product(RUN_BY, {key for files in RUN_BY.values() for key in files}):
        assert not (key in RUN_BY[name] and key in OUT_OF_SCOPE[name])


@pytest.mark.parametrize("case", cases("paper_cases", category="growthbook_inverse_top_two_bug"))
def test_a_metric_where_lower_is_better_does_not_serve_the_worst_arms(case):
    """A peer serves 600 and 560 of 1 000 failures 98.8 % and the best arm, 500, the rest (see the case)."""
    assert case["weights"][0] + case["weights"][1] > 0.98
    failures = BinaryCounts(n=[1000, 1000, 1000], successes=[600, 560, 500])
    best = probability_best(BetaPosterior.from_counts(failures.flipped()))
    assert best.tolist() == pytest.approx(case["p_best"], abs=0.001)
    split = top_two_split(best)
    assert split.tolist() == sorted(split.tolist())
    assert split[0] < 0.01
