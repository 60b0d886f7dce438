"""The calls of `promptbandit demo`: three versions, whose callers have their luck."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from cli.demo_phone import Heard, Phone, Played

PROMPT = "support"
LOOKS = 6  # at the split, over all calls


@dataclass(frozen=True, slots=True)
class DemoVersion:
    """A version and what its callers experience: success rate, mean quality, mean duration in seconds."""

    key: str
    idea: str
    text: str
    resolved: float
    quality: float
    duration_s: float


# Success rates of three strategies of one agent on the airline tasks of tau-bench (Sierra Research,
# leaderboard in the repository's README): Act .365, tool calling .420, ReAct .325.
VERSIONS = (
    DemoVersion("v1", "act", "You are the support agent of an airline. Act at once.", 0.365, 0.55, 210.0),
    DemoVersion(
        "v2", "tools", "You are the support agent of an airline. Look things up.", 0.420, 0.60, 195.0
    ),
    DemoVersion(
        "v3", "think aloud", "You are the support agent of an airline. Think aloud.", 0.325, 0.52, 240.0
    ),
)
FALLBACK = {PROMPT: VERSIONS[0].text}
_BY_KEY = {version.key: version for version in VERSIONS}


def play_calls(phone: Phone, *, calls: int, seconds: float, seed: int) -> Played:
    """Play calls until there were `calls` of them or `seconds` are over."""
    return phone.play(
        partial(_call, phone, seed), range(calls), seconds=seconds, every=max(calls // LOOKS, 1)
    )


def resolved_if_even(calls: int) -> float:
    """The expected number of resolved calls had each version had its third."""
    return calls * sum(version.resolved for version in VERSIONS) / len(VERSIONS)


def _call(phone: Phone, seed: int, number: int) -> Heard:
    unit_id = f"demo-{seed}-{number}"
    assignment = phone.client.assign(PROMPT, unit_id)
    version = _BY_KEY.get(assignment.variant or "", VERSIONS[0])
    luck = np.random.default_rng([seed, number])
    resolved = bool(luck.random() < version.resolved)
    quality = float(luck.beta(8 * version.quality, 8 * (1 - version.quality)))
    duration_s = float(luck.gamma(4.0, version.duration_s / 4.0))
    phone.client.record(
        PROMPT,
        unit_id,
        {"resolved": resolved, "quality": round(quality, 3), "duration_s": round(duration_s, 1)},
    )
    return Heard(resolved, assignment.source == "fallback")
