"""Change a formula of the engine once and see a test fail: `make mutants`, ten minutes on one core.

Each mutant is one text of one module, replaced in a temporary copy of the package, which the named tests then
import instead of the real one. A survivor is a formula that no test holds. Names as arguments run a part:
`python -P tests/mutations.py sequential adaptive`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300  # a mutant may loop for ever: as good as a failed test


class Mutant(NamedTuple):
    module: str
    old: str
    new: str
    tests: tuple[str, ...] = ()  # of tests/engine; those of the module where none is given


MUTANTS = [
    Mutant("statistics", "np.maximum(n - 1.0, 0.0))", "np.maximum(n, 0.0))", ("statistics", "means")),
    Mutant("proportions", "np.log(2.0) + log_ndtr", "log_ndtr"),
    Mutant("proportions", "n[1] * (n[0] + n[1])\n", "n[1] * (n[0] + n[1] - 1.0)\n"),
    Mutant("proportions", "/ (2.0 * (n + z * z))", "/ (2.0 * n + z * z)"),
    Mutant("proportions", "of_base.upper - base.rate)", "base.rate - of_base.lower)"),
    Mutant("means", "share**2 / np.maximum(n - 1.0, 1.0)", "share**2 / np.maximum(n, 1.0)"),
    Mutant("means", "moments.variance / np.maximum(n, 1.0)", "moments.variance / np.maximum(n - 1.0, 1.0)"),
    Mutant("multiplicity", "np.arange(order.size, 0, -1)", "np.arange(order.size + 1, 1, -1)"),
    Mutant("multiplicity", "np.minimum.accumulate((factors", "np.maximum.accumulate((factors"),
    Mutant("beta_binomial", "beta + (counts.n - counts.successes)", "beta + counts.n"),
    Mutant("beta_binomial", "/ (n + 1.0)))", "/ n))"),
    Mutant("beta_comparison", "np.maximum(-lead, 0.0)", "np.maximum(lead, 0.0)", ("beta_binomial",)),
    Mutant(
        "beta_comparison",
        "beta[control] - alpha[control] * beta",
        "beta[control] + alpha[control] * beta",
        ("beta_binomial",),
    ),
    Mutant("beta_logit", "n * growth - shape * delta", "n * growth + shape * delta", ("beta_binomial",)),
    Mutant("beta_overlap", "- small * outward", "+ small * outward", ("beta_binomial",)),
    Mutant("beta_overlap", "mass -= (alpha + beta)", "mass -= alpha", ("beta_binomial",)),
    Mutant("beta_overlap", "    entry[:, 1:] += start[:, None]\n", "", ("beta_binomial",)),
    Mutant("beta_overlap", "* below + math.exp(log_density) / n", "* below", ("beta_binomial",)),
    Mutant("beta_overlap", "x * below - alpha / n *", "x * below -", ("beta_binomial",)),
    Mutant("beta_overlap", "probability, first + loss", "probability, loss", ("beta_binomial",)),
    Mutant(
        "beta_overlap",
        "if loss * LOSS_DIGITS < missed",
        "if loss * LOSS_DIGITS < 0.0 * missed",
        ("beta_binomial",),
    ),
    Mutant(
        "beta_overlap",
        "special.expit(t) * special.expit(-t) * WEIGHTS",
        "special.expit(t) * WEIGHTS",
        ("beta_binomial",),
    ),
    Mutant("beta_lattice", "np.where(leads, ahead, behind)", "np.where(leads, behind, ahead)"),
    Mutant("beta_lattice", "np.expm1(rivals)", "np.expm1(logs.sum(axis=0))"),
    Mutant("beta_lattice", "POINTS_PER_SD = 4.5", "POINTS_PER_SD = 3.0"),
    Mutant("beta_lattice", "MOST_ARMS = 20", "MOST_ARMS = 2_000"),
    Mutant("beta_table", "mass[:, :0:-1].cumsum", "mass[:, ::-1][:, 1:].cumsum"),
    Mutant("beta_table", "WITHIN = 0.7", "WITHIN = 0.0"),
    Mutant("beta_pairs", "1.0 - wanted, wanted", "wanted, wanted"),
    Mutant("beta_blunt", "is_turned, under, over", "is_turned, over, under"),
    Mutant("beta_blunt", "is_turned = sd[arm] < sd[control]", "is_turned = sd[arm] > sd[control]"),
    Mutant("beta_blunt", "POINTS_PER_SD = 2.0", "POINTS_PER_SD = 1.0"),
    Mutant("beta_blunt", "outside[:, 0] + np", "np"),
    Mutant(
        "normal_comparison",
        "loss + float(shortfall(mean[leader] - low",
        "loss + 0.0 * float(shortfall(mean[leader] - low",
        ("normal",),
    ),
    Mutant("guardrails", "contrasts * max(guardrails, 1) / HARM", "contrasts / HARM"),
    Mutant("thompson", "apart.T, 0.0)", "apart, 0.0)"),
    Mutant("thompson", "* variance[:, None]\n    is_ahead", "* variance[None, :]\n    is_ahead"),
    Mutant("beta_difference", "abs(d), log1p(-abs(d))", "abs(d), log1p(abs(d))", ("beta_binomial",)),
    Mutant("beta_difference", "(-edge, edge)", "(0.0, edge)", ("beta_binomial",)),
    Mutant("normal", "lead * control_mean + noise", "lead * control_mean - noise"),
    Mutant("normal", "own + prior_weight * (prior_mean - own)", "own - prior_weight * (prior_mean - own)"),
    Mutant("normal_comparison", "(1.0 - z * mills)", "(1.0 + z * mills)", ("normal",)),
    Mutant(
        "normal_comparison", "np.exp(own) * -np.expm1(others)", "np.exp(others) * -np.expm1(own)", ("normal",)
    ),
    Mutant("thompson", "(1.0 - share) * (p @ challenger)", "share * (p @ challenger)"),
    Mutant("allocation", "np.argsort(-remainders", "np.argsort(remainders"),
    Mutant(
        "allocation",
        "np.where(arrives <= corners[here], upper, lower)",
        "np.where(arrives < corners[here], upper, lower)",
    ),
    Mutant("assignment", '(digest[:8], "big")', '(digest[:8], "little")'),
    Mutant("assignment", 'f"{salt}/{unit_id}"', 'f"{unit_id}/{salt}"'),
    Mutant("sequential", "np.where(arm, 1.0 - pi, -pi)", "np.where(arm, pi, pi - 1.0)"),
    Mutant("sequential", "shrunk[..., 0] + pi * difference", "shrunk[..., 0] + (1.0 - pi) * difference"),
    Mutant(
        "sequential", "pool = (before.total.sum(axis=-1) + 1.0)", "pool = (before.total.sum(axis=-1) + 0.9)"
    ),
    Mutant("sequential", '> 0.0) == (self.direction == "better")', '> 0.0) != (self.direction == "better")'),
    Mutant("sequential", "* lifted) / (1.0 + abs(self.margin))", "* lifted) / 1.0"),
    Mutant("sequential", "np.maximum(difference, 0.0)", "np.abs(difference)"),
    Mutant("sequential", "/ (np.maximum(pi, 1.0 - pi) * np", "/ (np.minimum(pi, 1.0 - pi) * np"),
    Mutant("sequential", "2.0) - pool * pool", "2.0) - pool"),
    Mutant("sequential", "np.exp(-self.log_e_max)", "np.exp(-self.log_e)"),
    Mutant("sequential", "_earlier(total, self.total, axis=-2)", "total"),
    Mutant("sequential", "np.log(log_level + 1.0)", "np.log(log_level)"),
    Mutant("sequential", "np.log(np.sqrt(grown) / alpha)", "np.log(grown / alpha)"),
    Mutant("adaptive", "slope=weight - (1.0 - weight)", "slope=weight + (1.0 - weight)"),
    Mutant("adaptive", "np.maximum(strength + n - 1.0", "np.maximum(strength + n"),
    Mutant("adaptive", "np.minimum(1.0 + past_n", "np.minimum(2.0 + past_n"),
    Mutant("adaptive", "np.minimum(1.0 + past_n, SHRINKAGE)", "1.0 + past_n"),
    Mutant("adaptive", "rest * apart, everyone", "rest, everyone"),
    Mutant("adaptive", "- mean**2, 0.0) / size", ", 0.0) / size"),
    Mutant("adaptive", "mine**-2.0 + theirs**-2.0", "mine**-2.0 + theirs**-1.0"),
    Mutant(
        "adaptive",
        "(1.0 + check_confidence_level(confidence_level)) / 2.0",
        "check_confidence_level(confidence_level)",
    ),
    Mutant("periods", "/ (size + 1.0), counts.n", "/ size, counts.n"),
    Mutant("periods", "weight[:, [control]] - weight ", "weight - weight[:, [control]] "),
    Mutant("periods", "spread = (weight**2 * variance)", "spread = (weight * variance)"),
    Mutant("periods", "/ level.variance - 1.0", "/ level.variance + 1.0"),
    Mutant(
        "periods", "since = units.sum() - np.cumsum(units)", "since = units.sum() - np.cumsum(units) + units"
    ),
    Mutant("periods", "where(present, moments.n - 1, 0)", "where(present, moments.n, 0)"),
    Mutant("periods", "(have[shares[j]] >= least).all()", "(have[shares[j]] >= least).any()"),
    Mutant("strata", "(inside + pooled) / n", "inside / n"),
    Mutant("strata", "degrees = n.sum(axis=0) - len(n)", "degrees = n.sum(axis=0) - 1.0"),
    Mutant("strata", "weight**2 @", "weight @"),
    Mutant("strata", "mean[:, 0] - mean[:, 1]", "mean[:, 1] - mean[:, 0]"),
    Mutant("strata", "few & (period == one)", "few"),
    Mutant("sample_ratio", "promised + prior, out", "prior, out"),
    Mutant("sample_ratio", " - np.log(len(bets))", ""),
    Mutant(
        "sample_ratio",
        "gammaln(size) - gammaln(size + n.sum(axis=1))",
        "gammaln(size + n.sum(axis=1)) - gammaln(size)",
    ),
    Mutant("sample_ratio", "- np.einsum(", "+ np.einsum("),
    Mutant("guardrails", "2.0 * contrasts / alpha", "contrasts / alpha"),
    Mutant("guardrails", "sequence.upper < -margin", "sequence.upper < margin"),
    Mutant("decision", "_loss(item) < threshold_of_caring", "_loss(item) <= threshold_of_caring"),
    Mutant("decision", "if cheap and progress.days_left <= 0.0", "if cheap"),
    Mutant(
        "power_formulas",
        "pooled * (1.0 - pooled) * (1.0 + 1.0 / self.ratio)",
        "pooled * (1.0 - pooled) * 2.0",
        ("power",),
    ),
    Mutant(
        "power_formulas", "(self.p1 + self.ratio * self.p2)", "(self.ratio * self.p1 + self.p2)", ("power",)
    ),
    Mutant("power_formulas", "ndtr(-shift - design.z_alpha)", "ndtr(-shift + design.z_alpha)", ("power",)),
    Mutant("power_formulas", "-ndtri(alpha / sides)", "-ndtri(alpha / 2)", ("power",)),
    Mutant("prior", "(n.size - 1) * within", "n.size * within"),
    Mutant("prior", "max(within / between - 1.0", "max(within / between"),
    Mutant("off_policy", "log.weight * (log.outcome - own)", "log.weight * (log.outcome + own)"),
    Mutant("off_policy", "ddof=1) / np.sqrt(terms.size)", "ddof=0) / np.sqrt(terms.size)"),
    Mutant("off_policy", "log.weight * (log.outcome - value)", "log.weight * log.outcome"),
]


def tests_of(mutant: Mutant) -> tuple[str, ...]:
    return mutant.tests or (mutant.module,)


def fresh_copy(folder: Path) -> Path:
    copy = folder / "engine"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "engine", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether every named test still passes with the changed text."""
    file = fresh_copy(folder) / f"{mutant.module}.py"
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.module}.py holds {mutant.old!r} {text.count(mutant.old)} times, must be once"
        )
    file.write_text(text.replace(mutant.old, mutant.new))
    return passes(tests_of(mutant), folder)


def passes(tests: Sequence[str], folder: Path) -> bool:
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),  # failing examples of mutants stay out
    }
    files = [f"tests/engine/test_{name}.py" for name in tests]
    # -P: without the current folder in front, so that the copy is what `import engine` finds.
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):  # 2 and more: no test was run
        raise SystemExit(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
    return done.returncode == 0


def main(modules: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not modules or mutant.module in modules]
    survivors, sound = [], set()
    with tempfile.TemporaryDirectory() as name:
        for mutant in chosen:
            if tests_of(mutant) not in sound:  # or every mutant would look killed
                fresh_copy(Path(name))
                if not passes(tests_of(mutant), Path(name)):
                    raise SystemExit(f"the tests of {mutant.module} fail without any change; run them first")
                sound.add(tests_of(mutant))
            lives = survives(mutant, Path(name))
            survivors += [mutant] if lives else []
            sys.stdout.write(
                f"{'SURVIVES' if lives else 'killed  '} {mutant.module}: {mutant.old!r} -> {mutant.new!r}\n"
            )
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were killed\n")
    return len(survivors)


if __name__ == "__main__":
    raise SystemExit(min(main(sys.argv[1:]), 1))
