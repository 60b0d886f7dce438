"""What the tests of the optimizer's talk share: a call, a ledger, and Claude before a local provider."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from domain.optimizer_settings import OptimizerSettings
from domain.outcomes import Turn
from optimizer.answers import Note, Notes
from optimizer.budget import Account, Budget
from optimizer.claude import Claude, open_claude
from optimizer.ledger import Ledger, LlmCall
from optimizer.requests import Asking, CallToRead, LlmRequest, PromptUnderStudy, map_request
from optimizer.sending import Patience

KEY = "sk-test-the-key-of-the-optimizer"
PROMPT = PromptUnderStudy(
    system_prompt="You answer the calls of a shop.\nAsk for the order number first.\nBe brief.",
    tools=("find_order",),
)
ASKING = Asking(model="claude-haiku-5-5", max_tokens=1_000, seed="seed of the run")
PATIENT_S = 60.0  # no test waits for it: a loaded machine must not turn an answer into a timeout


def call(
    label: str = "c1", *said: tuple[str, str], failed: bool = True, segment: str = "returns"
) -> CallToRead:
    """A call; by default one where the agent does not know."""
    turns = said or (
        ("caller", "I want to send back my shoes."),
        ("agent", "Sorry, I don't know how returns work."),
        ("caller", "Never mind."),
    )
    return CallToRead(
        label=label,
        failed=failed,
        segment=segment,
        outcomes={"resolved": 0.0 if failed else 1.0, "quality": 0.2 if failed else 0.9},
        turns=tuple(Turn(role=role, content=text) for role, text in turns),
    )


def request(label: str = "c1", *said: tuple[str, str]) -> LlmRequest[Notes]:
    """A question about one call."""
    return map_request(call(label, *said), prompt=PROMPT, asking=ASKING)


def an_answer() -> Notes:
    """Notes that no scripted analyst writes."""
    note = Note(
        fault="policy",
        category="other",
        root_cause="The shop takes nothing back.",
        turn=1,
        quote="I don't know",
        prompt_section=None,
    )
    return Notes(optimal=False, notes=[note])


class Kept:
    """A ledger in memory: what was stored, in its order. The real one is the run's tables."""

    def __init__(self, calls: Sequence[LlmCall] = ()) -> None:
        self.calls = list(calls)
        self.batches: dict[str, list[str]] = {}

    @property
    def ledger(self) -> Ledger:
        return Ledger(find=self._find, store=self._store, store_batch=self._store_batch)

    async def _find(self, request_hash: str) -> LlmCall | None:
        paid = [item for item in self.calls if item.status == "received"]
        return next((item for item in paid if item.request_hash == request_hash), None)

    async def _store(self, item: LlmCall) -> None:
        # What is stored has to survive a row: it goes through JSON here.
        self.calls.append(msgspec.json.decode(msgspec.json.encode(item), type=LlmCall))

    async def _store_batch(self, batch_id: str, hashes: Sequence[str]) -> None:
        self.batches[batch_id] = list(hashes)


class Slept:
    """A sleep that takes no time and remembers how long it was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@asynccontextmanager
async def claude_at(
    url: str,
    kept: Kept | None = None,
    *,
    max_usd: float = 5.0,
    max_tokens: int = 2_000_000,
    timeout_s: float = PATIENT_S,
    slept: Slept | None = None,
) -> AsyncIterator[Claude]:
    """Claude over the real SDK, before a server on loopback; retries without waiting."""
    settings = OptimizerSettings(anthropic_api_key=KEY, anthropic_base_url=url, optimizer_timeout_s=timeout_s)
    patience = Patience(
        timeout_s=timeout_s, max_retries=3, max_wait_s=30.0, rng=random.Random(7), sleep=slept or Slept()
    )
    account = Account(Budget(max_usd=max_usd, max_tokens=max_tokens))
    async with open_claude(
        settings, ledger=(kept or Kept()).ledger, account=account, patience=patience
    ) as claude:
        yield claude
