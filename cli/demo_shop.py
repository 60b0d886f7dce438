"""A shop on the phone whose agent can do what its prompt tells it about: callers, their words, their luck.

Everything is a function of the prompt's text, the seed and the call's number, so another prompt meets the
same callers with the same luck, and what a text changes can be told beforehand (`true_rate`).
"""

from typing import NamedTuple

import numpy as np

# What callers ask about, and how often. The prompts below say nothing about the first, which half of them want.
TOPICS = {"returns": 0.5, "sizes": 0.25, "delivery": 0.25}
CONTROL = """\
You answer the calls of a shop for outdoor clothes and tents.
Be friendly and brief.
Asked about sizes, look them up in the chart and name one.
Asked about delivery, look up the parcel and name the day."""
# Another tone, which changes nothing.
CHALLENGER = CONTROL.replace("friendly and brief", "friendly and brief, and say the name of the shop")
# Whoever is told this knows nothing of what the lines above it say.
FROM_MEMORY = "look nothing up"
# How many calls are resolved where the prompt tells about the topic, and where it does not.
TOLD, NOT_TOLD = 0.75, 0.15
# Looking things up takes its time.
TOLD_S, NOT_TOLD_S = 200.0, 150.0
# Two independent sources of luck a call: what is asked does not depend on how it goes.
TOPIC_STREAM, CALL_STREAM = 0, 1

_THINGS = ("rain jacket", "tent", "sleeping bag", "rucksack", "fleece", "headlamp", "stove", "pair of boots")
_COLOURS = ("red", "blue", "green", "black", "orange", "grey", "yellow", "brown", "white", "olive")


class ShopCall(NamedTuple):
    """How a call went: the metrics of its outcome, and what was said."""

    metrics: dict[str, bool | float]
    transcript: list[dict[str, str]]


def topic_of(seed: int, number: int) -> str:
    """What the caller asks about, whatever the prompt."""
    shares = list(TOPICS.values())
    return str(_luck(seed, number, TOPIC_STREAM).choice(list(TOPICS), p=shares))


def tells_about(text: str, topic: str) -> bool:
    """Whether an agent with this prompt knows what to do."""
    told = text.casefold()
    return f"about {topic}" in told and FROM_MEMORY not in told


def true_rate(text: str) -> float:
    """The share of calls that an agent with this prompt resolves."""
    return sum(share * _rate(text, topic) for topic, share in TOPICS.items())


def call_of(text: str, *, seed: int, number: int) -> ShopCall:
    """The call of this number, answered by an agent with this prompt."""
    topic, luck = topic_of(seed, number), _luck(seed, number, CALL_STREAM)
    is_resolved = bool(luck.random() < _rate(text, topic))
    mean = 0.8 if is_resolved else 0.2
    quality = float(luck.beta(8.0 * mean, 8.0 * (1.0 - mean)))
    is_told = tells_about(text, topic)
    duration_s = float(luck.gamma(4.0, (TOLD_S if is_told else NOT_TOLD_S) / 4.0))
    thing = f"{luck.choice(_COLOURS)} {luck.choice(_THINGS)}"
    days = int(luck.integers(2, 60))
    metrics: dict[str, bool | float] = {
        "resolved": is_resolved,
        "quality": round(quality, 3),
        "duration_s": round(duration_s, 1),
    }
    asked = f"Hello, I bought a {thing} {days} days ago and have a question about {topic}."
    return ShopCall(metrics, _turns(asked, topic, thing, is_resolved=is_resolved, is_told=is_told))


def _turns(asked: str, topic: str, thing: str, *, is_resolved: bool, is_told: bool) -> list[dict[str, str]]:
    if is_resolved:
        answer, reply = f"I have found your {thing}, it is settled.", f"Thank you, so the {thing} is fine."
    elif is_told:
        answer = f"I have found your {thing}, it takes until next week."
        reply = f"That is too late for my {thing}, good bye."
    else:
        answer = f"Sorry, I don't know what we do about {topic} of a {thing}."
        reply = f"Then let me speak to somebody about my {thing}."
    return [
        {"role": "caller", "content": asked},
        {"role": "agent", "content": answer},
        {"role": "caller", "content": reply},
    ]


def _rate(text: str, topic: str) -> float:
    return TOLD if tells_about(text, topic) else NOT_TOLD


def _luck(seed: int, number: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, number, stream])
