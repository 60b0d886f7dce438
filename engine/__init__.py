"""Pure numerics: arrays in, frozen results out. No storage, no HTTP, no clock; numpy and scipy only.

`frames` and `ordered` alone know frames, and load narwhals when one comes.

The data flow, one module a step:

1. `assignment`: salt and unit become a bucket, bucket and split become an arm.
2. `statistics`: outcomes become counts and moments that add.
3. `sequential`: evidence at any look, under any split; `proportions`, `means`, `multiplicity`: at one look;
   `power` plans both.
4. `adaptive`, `strata`, `off_policy`: estimates that stay right after a bandit.
5. `beta_binomial`, `normal`, `periods`, `prior`: belief, posteriors of each arm; `hierarchical`: of each
   segment.
6. `thompson`: posteriors become the split we wish for; `allocation` makes it one that can be served.
7. `sample_ratio`, `guardrails`, `decision`: may the data be trusted, does a variant harm, what to do.
8. `conclusion`: all of it about one experiment, as the report shows it; `front`: `compare` and `Study`, from
   counts or any frame to the same numbers.

`pictures` draws what 8 found; `simulation` plays whole experiments, to see how often all this is wrong.

An *arm* is a position in an array. Higher is better: `flipped()` turns a metric where lower is better.
The names below load on first use; `engine.power` is the module, its function is `engine.power.power`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.adaptive import AipwEstimate, aipw_estimate
    from engine.allocation import largest_remainder, served_split
    from engine.assignment import arm_of, bucket
    from engine.beta_binomial import BestArm, BetaPosterior, best_arm
    from engine.counts import Counts
    from engine.decision import recommend
    from engine.findings import Findings
    from engine.front import Study, compare
    from engine.guardrails import guardrail_status
    from engine.hierarchical import fit_segments, prior_predictive
    from engine.looks import Look, looks_of
    from engine.means import WelchTest, welch_test
    from engine.metrics import Amount, Binary, Metric, Score
    from engine.multiplicity import benjamini_hochberg, e_benjamini_hochberg, holm
    from engine.normal import NormalPosterior
    from engine.off_policy import PolicyValue, doubly_robust, effective_sample_size, ips, snips
    from engine.pictures import save_picture
    from engine.power import SampleSize, days_needed, minimum_detectable_effect, sample_size, sample_size_mean
    from engine.prior import ArmPrior, empirical_bayes, new_arm_prior
    from engine.proportions import ZTest, newcombe_interval, wilson_interval, z_test
    from engine.sample_ratio import SampleRatioTest, sample_ratio_test
    from engine.segment_fit import SegmentsFit, UnreliableFit
    from engine.segment_sampling import Sampler
    from engine.sequential import EProcess, confidence_sequence
    from engine.simulated_policy import Policy
    from engine.simulation import History, Scenario, simulate
    from engine.statistics import BinaryCounts, Interval, Moments
    from engine.strata import StratifiedEstimate, stratified_estimate
    from engine.thompson import thompson_split, top_two_split, transport_split

__all__ = [
    "AipwEstimate",
    "Amount",
    "ArmPrior",
    "BestArm",
    "BetaPosterior",
    "Binary",
    "BinaryCounts",
    "Counts",
    "EProcess",
    "Findings",
    "History",
    "Interval",
    "Look",
    "Metric",
    "Moments",
    "NormalPosterior",
    "Policy",
    "PolicyValue",
    "SampleRatioTest",
    "SampleSize",
    "Sampler",
    "Scenario",
    "Score",
    "SegmentsFit",
    "StratifiedEstimate",
    "Study",
    "UnreliableFit",
    "WelchTest",
    "ZTest",
    "aipw_estimate",
    "arm_of",
    "benjamini_hochberg",
    "best_arm",
    "bucket",
    "compare",
    "confidence_sequence",
    "days_needed",
    "doubly_robust",
    "e_benjamini_hochberg",
    "effective_sample_size",
    "empirical_bayes",
    "fit_segments",
    "guardrail_status",
    "holm",
    "ips",
    "largest_remainder",
    "looks_of",
    "minimum_detectable_effect",
    "new_arm_prior",
    "newcombe_interval",
    "prior_predictive",
    "recommend",
    "sample_ratio_test",
    "sample_size",
    "sample_size_mean",
    "save_picture",
    "served_split",
    "simulate",
    "snips",
    "stratified_estimate",
    "thompson_split",
    "top_two_split",
    "transport_split",
    "welch_test",
    "wilson_interval",
    "z_test",
]

# A process that only assigns must not wait for numpy and scipy (0.5 to 1 s).
_MODULE_OF = {
    "AipwEstimate": "adaptive",
    "Amount": "metrics",
    "ArmPrior": "prior",
    "BestArm": "beta_binomial",
    "BetaPosterior": "beta_binomial",
    "Binary": "metrics",
    "BinaryCounts": "statistics",
    "Counts": "counts",
    "EProcess": "sequential",
    "Findings": "findings",
    "History": "simulation",
    "Interval": "statistics",
    "Look": "looks",
    "Metric": "metrics",
    "Moments": "statistics",
    "NormalPosterior": "normal",
    "Policy": "simulated_policy",
    "PolicyValue": "off_policy",
    "SampleRatioTest": "sample_ratio",
    "SampleSize": "power",
    "Sampler": "segment_sampling",
    "Scenario": "simulation",
    "Score": "metrics",
    "SegmentsFit": "segment_fit",
    "StratifiedEstimate": "strata",
    "Study": "front",
    "UnreliableFit": "segment_fit",
    "WelchTest": "means",
    "ZTest": "proportions",
    "aipw_estimate": "adaptive",
    "arm_of": "assignment",
    "benjamini_hochberg": "multiplicity",
    "best_arm": "beta_binomial",
    "bucket": "assignment",
    "compare": "front",
    "confidence_sequence": "sequential",
    "days_needed": "power",
    "doubly_robust": "off_policy",
    "e_benjamini_hochberg": "multiplicity",
    "effective_sample_size": "off_policy",
    "empirical_bayes": "prior",
    "fit_segments": "hierarchical",
    "guardrail_status": "guardrails",
    "holm": "multiplicity",
    "ips": "off_policy",
    "largest_remainder": "allocation",
    "looks_of": "looks",
    "minimum_detectable_effect": "power",
    "new_arm_prior": "prior",
    "newcombe_interval": "proportions",
    "prior_predictive": "hierarchical",
    "recommend": "decision",
    "sample_ratio_test": "sample_ratio",
    "sample_size": "power",
    "sample_size_mean": "power",
    "save_picture": "pictures",
    "served_split": "allocation",
    "simulate": "simulation",
    "snips": "off_policy",
    "stratified_estimate": "strata",
    "thompson_split": "thompson",
    "top_two_split": "thompson",
    "transport_split": "thompson",
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
