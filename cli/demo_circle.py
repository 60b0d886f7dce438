"""`promptbandit demo --optimizer`: failing calls, a suggestion, a manager, a new arm, and what calls say of it."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import msgspec
from rich.console import Console

from cli.demo_phone import Heard, Phone, Played, open_phone
from cli.demo_review import review
from cli.demo_server import DemoServer, ok
from cli.demo_shop import CHALLENGER, CONTROL, call_of, topic_of, true_rate
from cli.report_table import print_report
from domain.report import Report
from domain.suggestions import Approval
from optimizer.local_analysts import careless_analyst, good_analyst
from optimizer.local_provider import LocalProvider

PROMPT = "support"
EXPERIMENT = "demo"
NO_KEY = "sk-of-the-demo-which-opens-nothing"
CALLS_BEFORE = 400  # the optimizer wants 30 that failed, and some of each kind
LOOK_EVERY = 150
CHOICES = ("switch", "equivalent", "keep_control")  # that name the version to go on with
DECIDED = (*CHOICES, "pause_variant")
READING_S = 20.0  # the test reads a call two seconds after it was given, at the earliest


@dataclass(frozen=True, slots=True)
class Circle:
    """What every step of the story needs."""

    server: DemoServer
    manager: httpx.Client
    phone: Phone
    console: Console
    seed: int

    def say(self, text: str) -> None:
        """A line of the story; words of models and callers are no markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def report(self) -> Report:
        """What is known now."""
        return msgspec.json.decode(ok(self.manager.get(f"/experiments/{EXPERIMENT}/report")), type=Report)

    def is_decided(self) -> bool:
        """Whether the report recommends to act."""
        return self.report().recommendation.action in DECIDED

    def play(self, numbers: range, *, seconds: float, is_open: bool) -> Played:
        """Calls; while it is open what to do, only until it is not."""
        return self.phone.play(
            partial(_call, self.phone, self.seed),
            numbers,
            seconds=seconds,
            every=LOOK_EVERY,
            is_enough=self.is_decided if is_open else lambda: False,
        )


def play_circle(
    server: DemoServer,
    manager: httpx.Client,
    console: Console,
    *,
    calls: int,
    seconds: float,
    seed: int,
    careless: bool,
) -> None:
    """Tell the story from the first call to the manager's decision."""
    with open_phone(server, manager, EXPERIMENT, fallback={PROMPT: CONTROL}, console=console) as phone:
        circle = Circle(server=server, manager=manager, phone=phone, console=console, seed=seed)
        _open(circle)
        before = min(CALLS_BEFORE, (calls + 1) // 2)
        played = circle.play(range(before), seconds=seconds, is_open=False)
        _tell_calls(circle, played)
        approval = _improve(circle, careless=careless)
        if approval is None:
            return
        circle.say("\n4. Calls go on; the split moves to where the outcomes point")
        after = circle.play(range(before, max(calls, before)), seconds=seconds, is_open=True)
        _decide(circle, approval, calls=played.calls + after.calls - played.fallbacks - after.fallbacks)


def _open(circle: Circle) -> None:
    circle.say(f"\n1. A shop's calls on two versions of prompt {PROMPT}; neither says a word about returns")
    variants = []
    for key, text in (("v1", CONTROL), ("v2", CHALLENGER)):
        told = circle.manager.post("/prompts", json={"name": PROMPT, "system_prompt": text})
        version = msgspec.json.decode(ok(told))
        variants.append({"key": key, "version_id": version["id"]})
    experiment = {
        "key": EXPERIMENT,
        "prompt": PROMPT,
        "variants": variants,
        "control": "v1",
        "policy": {"name": "thompson", "burn_in": 100, "every_s": 1},
        # Less than ten points would not be worth a new prompt.
        "minimum_detectable_effect": 0.1,
        "min_days": 0,
    }
    ok(circle.manager.post("/experiments", json=experiment))


def _call(phone: Phone, seed: int, number: int) -> Heard:
    unit_id = f"demo-{seed}-{number}"
    assignment = phone.client.assign(PROMPT, unit_id, segment=topic_of(seed, number))
    call = call_of(assignment.version.system_prompt, seed=seed, number=number)
    phone.client.record(PROMPT, unit_id, call.metrics, transcript=call.transcript)
    return Heard(bool(call.metrics["resolved"]), assignment.source == "fallback")


def _tell_calls(circle: Circle, played: Played) -> None:
    share = _percent(played.resolved / max(played.calls, 1))
    circle.say(f"{played.calls} calls in {played.seconds:.0f} s, {played.resolved} resolved ({share})")


def _improve(circle: Circle, *, careless: bool) -> Approval | None:
    """A run of the optimizer and a manager's approval; None where nothing was suggested."""
    circle.say(f"\n2. promptbandit optimize --prompt {PROMPT}; a scripted model on loopback plays Claude")
    with LocalProvider(careless_analyst if careless else good_analyst) as local:
        told = circle.server.command(
            "optimize", "--prompt", PROMPT, anthropic_api_key=NO_KEY, anthropic_base_url=local.url
        )
        circle.say(told)
        circle.say(f"{len(local.questions)} questions; the cost is what Claude would have taken for them")
    return review(circle.manager, circle.say, prompt=PROMPT)


def _decide(circle: Circle, approval: Approval, *, calls: int) -> None:
    report = _settled(circle, calls)
    print_report(report, circle.console)
    truth = {"v1": CONTROL, "v2": CHALLENGER, approval.variant or "": approval.suggestion.system_prompt}
    rates = ", ".join(f"{key} {_percent(true_rate(text))}" for key, text in truth.items())
    circle.say(f"  in truth {rates} of calls are resolved: this shop is simulated, so it is known")
    _act(circle, report)


def _settled(circle: Circle, calls: int) -> Report:
    """The report once the test has read the last call, or some time later."""
    deadline = time.monotonic() + READING_S
    report = circle.report()
    while report.evidence.units < calls and time.monotonic() < deadline:
        time.sleep(0.5)
        report = circle.report()
    return report


def _act(circle: Circle, report: Report) -> None:
    advice = report.recommendation
    circle.say("\n5. The manager follows the recommendation")
    path = f"/experiments/{EXPERIMENT}"
    if advice.action in CHOICES:
        ok(circle.manager.patch(f"{path}/stop", json={"winner": advice.variant}))
        circle.say(
            f"stopped with {advice.variant} as the winner: version {_active(circle)} answers every call from now on,"
        )
        circle.say("and the next run of the optimizer starts from it")
    elif advice.action == "pause_variant":
        ok(circle.manager.patch(f"{path}/variants/{advice.variant}/retire"))
        circle.say(
            f"retired {advice.variant}, which got no more calls since it was proven worse; its data stay,"
        )
        circle.say(f"version {_active(circle)} is active as before, the experiment goes on without it")
    else:
        circle.say(f"nothing to do yet: the experiment goes on; still needed: {_needed(report)}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _needed(report: Report) -> str:
    return "; ".join(report.recommendation.still_needed) or "nothing"


def _active(circle: Circle) -> int:
    found: list[dict[str, Any]] = msgspec.json.decode(ok(circle.manager.get("/prompts")))
    return next(int(version["number"]) for version in found if version["is_active"])
