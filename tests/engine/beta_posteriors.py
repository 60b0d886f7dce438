"""Beta posteriors for tests, as they come in practice and at the ends of what can be."""

import numpy as np
from hypothesis import strategies as st

from engine.beta_binomial import BetaPosterior

TINY = 1e-300
sizes = st.sampled_from([0, 1, 3, 10, 200, 5_000, 10**6, 10**8])
priors = st.sampled_from([0.01, 0.1, 0.5, 1.0, 2.5])


def posterior_of(pairs):
    return BetaPosterior(*np.array([[float(a), float(b)] for a, b in pairs]).T)


@st.composite
def posteriors(draw, least=2, most=6):
    """Posteriors as they come: any size beside any other, rates at the ends, in the middle and close together."""
    prior = draw(priors)
    centre = draw(st.sampled_from([0.0, 1e-6, 0.02, 0.5, 0.8, 1.0]))
    pairs = []
    for _ in range(draw(st.integers(least, most))):
        n = draw(sizes)
        near = centre + draw(st.floats(-3, 3)) * np.sqrt(max(centre * (1 - centre), 1e-9) / max(n, 1))
        rate = draw(st.sampled_from([float(np.clip(near, 0, 1)), draw(st.floats(0, 1))]))
        good = round(n * rate)
        pairs.append((good + prior, n - good + prior))
    return posterior_of(pairs)


@st.composite
def ordinary_posteriors(draw, least=2, most=6):
    """Arms with some units of either kind, sizes within a hundred of each other, rates up to far apart."""
    rate, n = draw(st.sampled_from([0.02, 0.1, 0.5, 0.8, 0.98])), 10.0 ** draw(st.floats(1.5, 5.0))
    sd = np.sqrt(rate * (1.0 - rate) / n)
    pairs = []
    for _ in range(draw(st.integers(least, most))):
        units = n * 10.0 ** draw(st.floats(-1.0, 1.0))
        own = float(np.clip(rate + draw(st.floats(-5.0, 5.0)) * sd, 0.001, 0.999))
        pairs.append((5.0 + units * own, 5.0 + units * (1.0 - own)))
    return posterior_of(pairs)
