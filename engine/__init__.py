"""Pure numerics: arrays in, frozen results out. No storage, no HTTP, no clock; numpy and scipy only.

The data flow, one module a step:

1. `assignment`: salt and unit become a bucket, bucket and split become an arm.
2. `statistics`: outcomes become counts and moments that add.
3. `proportions`, `means`, `multiplicity`: evidence, tests against the control; `power` plans them.
4. `beta_binomial`, `normal`: belief, posteriors of each arm.
5. `thompson`: posteriors become the split we wish for; `allocation` makes it one that can be served.

An *arm* is a position in an array. Higher is better: `flipped()` turns a metric where lower is better.
The names below load on first use; `engine.power` is the module, its function is `engine.power.power`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.allocation import largest_remainder, served_split
    from engine.assignment import arm_of, bucket
    from engine.beta_binomial import BetaPosterior
    from engine.means import WelchTest, welch_test
    from engine.multiplicity import benjamini_hochberg, holm
    from engine.normal import NormalPosterior
    from engine.power import SampleSize, days_needed, minimum_detectable_effect, sample_size, sample_size_mean
    from engine.proportions import ZTest, newcombe_interval, wilson_interval, z_test
    from engine.statistics import BinaryCounts, Interval, Moments
    from engine.thompson import thompson_split, top_two_split

__all__ = [
    "BetaPosterior",
    "BinaryCounts",
    "Interval",
    "Moments",
    "NormalPosterior",
    "SampleSize",
    "WelchTest",
    "ZTest",
    "arm_of",
    "benjamini_hochberg",
    "bucket",
    "days_needed",
    "holm",
    "largest_remainder",
    "minimum_detectable_effect",
    "newcombe_interval",
    "sample_size",
    "sample_size_mean",
    "served_split",
    "thompson_split",
    "top_two_split",
    "welch_test",
    "wilson_interval",
    "z_test",
]

# A process that only assigns must not wait for numpy and scipy (0.5 to 1 s).
_MODULE_OF = {
    "BetaPosterior": "beta_binomial",
    "BinaryCounts": "statistics",
    "Interval": "statistics",
    "Moments": "statistics",
    "NormalPosterior": "normal",
    "SampleSize": "power",
    "WelchTest": "means",
    "ZTest": "proportions",
    "arm_of": "assignment",
    "benjamini_hochberg": "multiplicity",
    "bucket": "assignment",
    "days_needed": "power",
    "holm": "multiplicity",
    "largest_remainder": "allocation",
    "minimum_detectable_effect": "power",
    "newcombe_interval": "proportions",
    "sample_size": "power",
    "sample_size_mean": "power",
    "served_split": "allocation",
    "thompson_split": "thompson",
    "top_two_split": "thompson",
    "welch_test": "means",
    "wilson_interval": "proportions",
    "z_test": "proportions",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"engine.{_MODULE_OF[name]}"), name)
    if name in _MODULE_OF.values():
        return import_module(f"engine.{name}")
    raise AttributeError(f"module 'engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
