"""What tokens cost, and the most that a request can cost."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from domain.fields import Record
from optimizer.ledger import Tokens

MILLION = 1_000_000
BATCH_FACTOR = 0.5
CACHE_READ_FACTOR = 0.1
CACHE_WRITE_FACTOR = 1.25  # of the 5-minute cache, the one we use
CHARACTERS_PER_TOKEN = 4


class Price(Record, frozen=True, kw_only=True):
    """USD per million tokens; some models cost more when the prompt is long."""

    input_usd: float
    output_usd: float
    long_from: int | None = None
    long_input_usd: float = 0.0
    long_output_usd: float = 0.0


PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "claude-haiku-5-5": Price(
            input_usd=0.10, output_usd=0.50, long_from=100_001, long_input_usd=0.50, long_output_usd=2.50
        ),
        "claude-sonnet-5-5": Price(input_usd=2.0, output_usd=10.0),
        "claude-opus-5-5": Price(input_usd=4.0, output_usd=20.0),
        "claude-fable-5-2": Price(input_usd=8.0, output_usd=40.0),
    }
)


def prices_from(text: str) -> dict[str, Price]:
    """The table with the exceptions of `PROMPTBANDIT_OPTIMIZER_PRICES`: `model=in/out,...`."""
    prices = dict(PRICES)
    for item in filter(None, text.split(",")):
        model, _, pair = item.partition("=")
        try:
            paid_in, paid_out = (float(part) for part in pair.split("/"))
        except ValueError as error:
            raise ValueError(
                f"PROMPTBANDIT_OPTIMIZER_PRICES has {item!r}; write model=in/out in USD per million tokens"
            ) from error
        prices[model] = Price(input_usd=paid_in, output_usd=paid_out)
    return prices


def price_of(model: str, prices: Mapping[str, Price]) -> Price:
    """The model's price; without one no budget can be kept, so it is refused before anything is sent."""
    if model not in prices:
        known = ", ".join(sorted(prices))
        raise ValueError(
            f"model {model!r} has no price (there are {known}); "
            f"set PROMPTBANDIT_OPTIMIZER_PRICES={model}=in/out in USD per million tokens"
        )
    return prices[model]


def cost_usd(tokens: Tokens, price: Price, *, batch: bool = False) -> float:
    """What these tokens cost."""
    prompt = tokens.input + tokens.read + tokens.written
    is_long = price.long_from is not None and prompt >= price.long_from
    paid_in, paid_out = (
        (price.long_input_usd, price.long_output_usd) if is_long else (price.input_usd, price.output_usd)
    )
    weighed = tokens.input + CACHE_READ_FACTOR * tokens.read + CACHE_WRITE_FACTOR * tokens.written
    full = (weighed * paid_in + tokens.output * paid_out) / MILLION
    return full * (BATCH_FACTOR if batch else 1.0)


def most_tokens(body: Mapping[str, Any]) -> Tokens:
    """An estimate before sending: a token per four bytes, all of them written to the cache, the longest answer.

    Bytes and not characters: other scripts than Latin have fewer characters to a token.
    """
    length = len(msgspec.json.encode(body))
    return Tokens(written=-(-length // CHARACTERS_PER_TOKEN), output=int(body["max_tokens"]))
