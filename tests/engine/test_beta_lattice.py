"""What a lattice of even points says is what the sweep and the tables of the pairs say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engine.beta_binomial import BetaPosterior
from engine.beta_comparison import TOLERANCE, Against, Best, against_control, best_arm
from engine.beta_lattice import Lattice
from tests.engine.beta_posteriors import TINY, ordinary_posteriors, posterior_of

few = st.tuples(st.sampled_from([0, 1, 2, 5, 12]), st.sampled_from([0, 1, 3, 10, 200]))
first_calls = st.builds(
    lambda pairs, prior: posterior_of([(good + prior, bad + prior) for good, bad in pairs]),
    st.lists(few, min_size=2, max_size=8),
    st.sampled_from([0.9, 1.0, 2.5]),
)
arms = st.one_of(ordinary_posteriors(most=8), first_calls)
# Arms that never succeeded: one that is best although the others are far ahead has a narrow integrand.
NEVER = posterior_of([(1, 11), (1, 201), (1, 11), (1, 1), (1, 11), (1, 201), (1, 11), (1, 4)])


def both_ways(posterior: BetaPosterior) -> tuple[tuple[Best, Best], tuple[Against, Against]]:
    """By the lattice and without it."""
    shapes = posterior.alpha, posterior.beta
    best, pairs = (
        [best_arm(*shapes, way) for way in (posterior.lattice, None)],
        [against_control(*shapes, 0, way) for way in (posterior.lattice, None)],
    )
    return (best[0], best[1]), (pairs[0], pairs[1])


@given(arms)
@example(NEVER)
@example(posterior_of([(178.88, 0.9), (983.74, 0.9)]))
@settings(max_examples=60)
def test_the_lattice_agrees_with_the_sweep_and_the_tables(posterior):
    assume(posterior.lattice is not None)
    best, pairs = both_ways(posterior)
    # Both add up a loss, which keeps fewer digits where it is tiny.
    for (found, wanted), parts in ((best, {"probability": TINY}), (pairs, {"better": TINY, "worse": TINY})):
        for part, least in {**parts, "loss": 1e-14}.items():
            expected = getattr(wanted, part).tolist()
            assert getattr(found, part).tolist() == pytest.approx(expected, rel=1e-10, abs=least), part


@given(arms)
@example(NEVER)
@settings(max_examples=40)
def test_one_of_the_arms_is_the_best_and_one_of_two_is_better(posterior):
    lattice = posterior.lattice
    assume(lattice is not None)
    probability, _ = lattice.best(int(posterior.mean.argmax()))
    better, worse, _ = lattice.against(0, posterior.mean >= posterior.mean[0])
    assert probability.sum() == pytest.approx(1.0, rel=0.0, abs=1e-11)
    assert (better + worse)[1:].tolist() == pytest.approx([1.0] * (better.size - 1), rel=0.0, abs=1e-11)


@pytest.mark.parametrize("shapes", [(300, 300), (1_700, 300), (1, 1), (1, 2.3)])
def test_twenty_equal_arms_have_equal_chances(shapes):
    lattice = posterior_of([shapes] * 20).lattice
    assert lattice is not None
    assert lattice.best(0)[0].tolist() == pytest.approx([0.05] * 20, rel=0.0, abs=1e-12)


def test_some_of_the_arms_are_those_of_a_lattice_of_their_own():
    posterior = posterior_of([(30, 10), (28, 12), (9, 6)])
    part = posterior.lattice.of(np.array([True, False, True]))
    alone = posterior_of([(30, 10), (9, 6)]).lattice
    assert part.best(0)[0].tolist() == pytest.approx(alone.best(0)[0].tolist(), rel=1e-12)
    assert posterior.lattice.of(np.ones(3, dtype=bool)) is posterior.lattice


def test_a_lattice_is_for_some_arms_that_are_about_as_sharp():
    """Else the fast way would be there for nobody, or wrong for many."""
    assert isinstance(posterior_of([(700, 300), (720, 280), (60, 40)]).lattice, Lattice)
    assert isinstance(posterior_of([(1, 1), (3, 1), (9, 4), (1, 6)]).lattice, Lattice)
    assert posterior_of([(700, 300), (0.5, 1)]).lattice is None
    assert posterior_of([(7e5, 3e5), (7, 3)]).lattice is None
    assert posterior_of([(700, 300)] * 21).lattice is None


def test_a_lattice_that_misses_a_sum_of_one_is_not_believed():
    posterior = posterior_of([(30, 10), (28, 12), (9, 6)])
    spoiled = replace(posterior.lattice, mass=posterior.lattice.mass * (1.0 + 10.0 * TOLERANCE))
    shapes = posterior.alpha, posterior.beta
    for found, wanted in (
        (best_arm(*shapes, spoiled), best_arm(*shapes)),
        (against_control(*shapes, 0, spoiled), against_control(*shapes, 0)),
    ):
        for part in wanted.__dataclass_fields__:
            assert np.array_equal(getattr(found, part), getattr(wanted, part)), part
