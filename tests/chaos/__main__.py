"""`make chaos`: faults in random order under load, and a judge that reads the database.

make chaos CHAOS="--faults 126 --rate 120 --seed 7"
"""

import argparse
import random
import signal
import sys

from tests.chaos.faults import KINDS
from tests.chaos.plan import LASTING_S, REST_S, plan
from tests.chaos.planted import PLANTED
from tests.chaos.planted.search import search
from tests.chaos.report import lines
from tests.chaos.run import Outcome, available, conduct, product_sample_ratio
from tests.chaos.stage import Stage


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=len(KINDS), help="how many; default: each kind once")
    parser.add_argument("--rate", type=float, default=60.0, help="calls a second; default 60")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--lasting", nargs=2, type=float, default=LASTING_S, metavar="S", help="of a fault")
    parser.add_argument("--rest", nargs=2, type=float, default=REST_S, metavar="S", help="after a fault")
    parser.add_argument("--processes", type=int, default=2, help="of agents")
    parser.add_argument(
        "--planted", choices=[*PLANTED, "all"], help="run servers with this bug: it must be found"
    )
    return parser.parse_args()


def main() -> int:
    """0 when every property holds, 1 when one does not, 2 when the harness itself was late."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unmount and end what was started
    if chosen.planted:
        names = list(PLANTED) if chosen.planted == "all" else [chosen.planted]
        return max(_search(name, chosen.seed) for name in names)
    _say(f"seed {chosen.seed}")
    with Stage(seed=chosen.seed, rate=chosen.rate, processes=chosen.processes) as stage:
        for part, reason in stage.missing.items():
            _say(f"without {part}: {reason}")
        planned = plan(
            chosen.seed,
            available(stage, chosen.kinds),
            faults=chosen.faults,
            lasting_s=tuple(chosen.lasting),
            rest_s=tuple(chosen.rest),
        )
        run = conduct(stage, planned, _say)
        ratio = product_sample_ratio(stage)
        status = _judge(run, ratio["mismatch"])
        _say(f"seed {chosen.seed}" + (f"; ledgers and logs: {stage.folder}" if status else ""))
    if not status:
        stage.forget()
    return status


def _judge(run: Outcome, mismatch: bool | None) -> int:
    _say("")
    for line in lines(run):
        _say(line)
    if mismatch:
        _say("VIOLATED split: the product itself reports a sample ratio mismatch")
    if run.unsafe or mismatch:
        return 1
    if run.is_void:
        _say(f"VOID: the harness itself was {run.lag_p99_ms:.0f} ms late (p99); try a quieter machine")
        return 2
    return int(bool(run.late))


def _search(name: str, seed: int) -> int:
    found = search(PLANTED[name], seed=seed)
    wanted = PLANTED[name].betrays
    _say(f"planted {name}: " + ", ".join(f"{key} {len(value)}" for key, value in found.items()))
    if wanted not in found:
        _say(f"NOT FOUND: {name} should show as {wanted!r} (seed {seed})")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
