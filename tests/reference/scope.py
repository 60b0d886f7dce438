"""Which reference cases the tests run, and which ones are out of scope and why.

The cases come from three files beside the repository (`tests/engine/references.py` finds them). A kind is a
category of `high_precision` and `peer_vectors`, and the beginning of an id in `paper_cases`, where the longest
one counts. `tests/engine/test_reference_scope.py` fails for a case of neither list.
"""

ENGINE = "tests/engine/"
YARDSTICKS = "tests/benchmarks/test_yardsticks.py"

RUN_BY = {
    "high_precision": {
        "beta_single": ENGINE + "test_beta_binomial.py::test_one_arm_agrees_with_every_reference_case",
        "beta_pair": ENGINE + "test_beta_binomial.py::test_two_arms_agree_with_every_reference_pair",
        "best_of_k": ENGINE + "test_beta_binomial.py::test_several_arms_agree_with_every_reference_case",
        "two_proportions": ENGINE
        + "test_proportions.py::test_the_test_and_all_intervals_agree_with_thirty_digits",
        "sample_size": ENGINE + "test_power.py::test_sample_sizes_agree_with_thirty_digits",
        "power": ENGINE + "test_power.py::test_power_agrees_with_thirty_digits",
        "welch": ENGINE + "test_means.py::test_welch_agrees_with_thirty_digits",
    },
    "paper_cases": {
        "pbest_": ENGINE + "test_beta_binomial.py::test_probability_best_agrees_with_the_paper_cases",
        "ttts_": ENGINE + "test_thompson.py::test_top_two_agrees_with_the_paper_cases",
        "simplex_bounds": ENGINE
        + "test_allocation.py::test_the_projection_and_its_buckets_agree_with_the_reference",
        "power_scott": ENGINE + "test_power.py::test_scotts_sample_size_agrees_with_the_reference",
        "asympcs": ENGINE + "test_sequential.py::test_half_widths_of_a_shorter_plan",
        "eprocess_rows": ENGINE + "test_sequential.py::test_the_worked_rows_are_reproduced",
        "eprocess_validity_extra": ENGINE
        + "test_frequencies.py::test_false_alarms_stay_under_alpha_with_three_arms",
        "ssrm_example": ENGINE
        + "test_sample_ratio.py::test_the_published_package_gives_the_same_p_after_every_look",
        "fpr_under_ts": ENGINE + "test_simulation.py::test_peeking_costs_what_it_cost_in_the_reference_runs",
        "scott_ga_two_arms": ENGINE
        + "test_simulation.py::test_googles_experiment_of_two_pages_ends_as_in_the_reference_runs",
        "garivier_kaufmann_wstar": YARDSTICKS
        + "::test_optimal_proportions_and_their_time_agree_with_the_paper",
        "garivier_kaufmann_table1": YARDSTICKS
        + "::test_an_even_split_needs_the_samples_it_needed_in_the_reference_runs",
        "lai_robbins": YARDSTICKS
        + "::test_the_bound_of_lai_and_robbins_agrees_with_its_formula_in_the_reference",
        "growthbook_inverse_top_two_bug": ENGINE
        + "test_reference_scope.py::test_a_metric_where_lower_is_better_does_not_serve_the_worst_arms",
    },
    "peer_vectors": {
        "beta_binomial": ENGINE + "test_beta_binomial.py::test_two_arms_agree_with_the_test_suites_of_peers",
        "beta_binomial_p_best": ENGINE + "test_beta_binomial.py::test_three_arms_agree_with_the_peer_vector",
        "two_proportion_z": ENGINE + "test_proportions.py::test_peers_numbers_are_reproduced",
        "welch_t": ENGINE + "test_means.py::test_peers_numbers_are_reproduced",
        "multiple_testing": ENGINE
        + "test_multiplicity.py::test_growthbooks_adjusted_p_values_are_reproduced",
        "sample_size_two_proportions": ENGINE
        + "test_power.py::test_statsmodels_recorded_sample_sizes_are_reproduced",
        "srm_chi2": ENGINE + "test_sample_ratio.py::test_peers_chi_squares_are_reproduced",
        "sequential_confidence_sequence": ENGINE
        + "test_sequential.py::test_growthbooks_sequential_intervals_are_reproduced",
        "bayes_gaussian_effect": ENGINE
        + "test_normal.py::test_chance_to_win_agrees_with_growthbook_and_flagsmith",
        "p_best_gaussian": ENGINE + "test_normal.py::test_probability_best_agrees_with_growthbook",
        "expected_loss_gaussian": ENGINE + "test_normal.py::test_expected_loss_agrees_with_growthbook",
    },
}

_RELATIVE = (
    "a one-sided or delta-method test of a ratio; ours tests the difference, two-sided, and shows the ratio"
)
_SPENDING = "group-sequential alpha spending: looks are not planned here, the e-process allows any"

OUT_OF_SCOPE = {
    "high_precision": {
        "meta": "no cases: how the others were made",
        "gamma_pair": "counts per unit (Poisson) are no kind of metric; binary, score and amount are",
    },
    "paper_cases": {
        "pvr_": "potential value remaining: the expected loss answers the same question in points of the goal",
        "confseq_bernoulli": "an interval of one rate at any time: ours compares two arms, by the e-process",
        "confseq_betting": "the same, by betting",
        "chapelle_li_2011_table1": "ten items that retire and are replaced for 10^6 steps: minutes per run; the "
        "policies' regret is measured by benchmarks/bandits.py",
        "hadad_2021_setting": "decaying floors with weights of their own; floors are constant here, where uniform "
        "weights are enough (tests/engine/test_adaptive.py)",
    },
    "peer_vectors": {
        "welch_t_one_sided": _RELATIVE,
        "proportion_welch_t": _RELATIVE,
        "relative_difference": _RELATIVE,
        "sequential_confidence_sequence_one_sided": _RELATIVE,
        "cuped": "no covariates from before the experiment: a call has none; segments take their place",
        "power": "GrowthBook's power of a relative effect with its own variance; ours is held to 30 digits",
        "power_sequential": "the same under its sequential tuning",
        "mde": "the smallest relative effect by GrowthBook's power; ours inverts our own power",
        "multiple_testing_ci": "intervals widened until they agree with an adjusted p; ours are not adjusted",
        "group_sequential_z_bounds": _SPENDING,
        "group_sequential_adjusted_alpha": _SPENDING,
        "msprt_critical_value": "Statsig's mixture test assumes a fixed split; ours must hold under a moving one",
        "assignment_hash": "GrowthBook's FNV-1a buckets; ours are SHA-256, checked in test_assignment.py",
        "bandit_weights": "additive floors w = f + (1 - K f) P(best); ours project and keep the arms' ratios",
        "bandit_weights_inverse_gap (SquareCB/FALCON)": "a policy for contextual bandits, not offered here",
    },
}
