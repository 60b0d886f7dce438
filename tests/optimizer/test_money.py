"""What tokens cost, and a purse that is never overdrawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.budget import Account, Amount, Budget
from optimizer.ledger import Tokens
from optimizer.prices import PRICES, Price, cost_usd, most_tokens, price_of, prices_from
from tests.optimizer.asking import request

HAIKU, OPUS = PRICES["claude-haiku-5-5"], PRICES["claude-opus-5-5"]


@pytest.mark.parametrize(
    ("tokens", "price", "usd"),
    [
        (Tokens(input=1_000_000), OPUS, 4.0),
        (Tokens(output=1_000_000), OPUS, 20.0),
        (Tokens(read=1_000_000), OPUS, 0.4),
        (Tokens(written=1_000_000), OPUS, 5.0),
        (Tokens(input=100_000, output=1_000), HAIKU, 0.0105),
        (Tokens(input=100_001, output=1_000), HAIKU, 0.0525005),
        (Tokens(input=1, read=100_000), HAIKU, 0.0050005),
        (Tokens(), OPUS, 0.0),
    ],
)
def test_a_cost_is_tokens_times_the_price_list(tokens: Tokens, price: Price, usd: float):
    """By hand from the price list; Haiku costs five times as much from 100 001 tokens of prompt on."""
    assert cost_usd(tokens, price) == pytest.approx(usd, rel=1e-12)
    assert cost_usd(tokens, price, batch=True) == pytest.approx(usd / 2, rel=1e-12)


def test_prices_can_be_told_and_the_others_stay():
    prices = prices_from("claude-next-1.0=3/15,claude-opus-5-5=5/25.5")
    assert prices["claude-next-1.0"] == Price(input_usd=3.0, output_usd=15.0)
    assert prices["claude-opus-5-5"] == Price(input_usd=5.0, output_usd=25.5)
    assert prices["claude-haiku-5-5"] == HAIKU
    assert prices_from("") == PRICES


@pytest.mark.parametrize("text", ["m", "m=1", "m=1/2/3", "m=a/b"])
def test_a_price_that_cannot_be_read_is_named(text: str):
    with pytest.raises(ValueError, match=f"PROMPTBANDIT_OPTIMIZER_PRICES.*{text}"):
        prices_from(text)


def test_a_model_without_a_price_is_named_with_the_way_out():
    with pytest.raises(ValueError, match="PROMPTBANDIT_OPTIMIZER_PRICES=gpt=in/out"):
        price_of("gpt", PRICES)


def test_the_most_that_a_request_takes_counts_every_byte_and_the_longest_answer():
    short, long = request(), request("c1", ("caller", "ä" * 4_000))
    assert most_tokens(short.body).output == short.max_tokens
    # 4 000 letters of two bytes are 2 000 tokens more than none.
    difference = most_tokens(long.body).written - most_tokens(request("c1", ("caller", "")).body).written
    assert difference == pytest.approx(2_000, abs=1)


amounts = st.builds(Amount, usd=st.floats(0, 3), tokens=st.integers(0, 300))
steps = st.lists(st.tuples(st.sampled_from("abc"), amounts, st.floats(0, 1) | st.none()), max_size=40)


@given(steps)
def test_what_is_committed_never_exceeds_the_budget(steps: list[tuple[str, Amount, float | None]]):
    """Whatever is asked for, and whether bills come (at most what was set aside) or stay unknown."""
    account = Account(Budget(max_usd=5.0, max_tokens=500))
    for name, most, share in steps:
        taken = account.set_aside(name, most) is None
        if taken and share is not None:
            account.settle(name, Amount(usd=most.usd * share, tokens=int(most.tokens * share)))
        assert account.committed.usd <= 5.0 + 1e-9
        assert account.committed.tokens <= 500


def test_an_unknown_bill_stays_set_aside_beside_the_next_one_for_the_same_question():
    account = Account(Budget(max_usd=1.0, max_tokens=1_000))
    most = Amount(usd=0.4, tokens=100)
    assert account.set_aside("a", most) is None  # no answer came: unknown
    assert account.set_aside("a", most) is None
    account.settle("a", Amount(usd=0.1, tokens=30))
    assert account.committed == Amount(usd=0.5, tokens=130)
    assert account.spent == Amount(usd=0.1, tokens=30)


def test_a_run_that_goes_on_begins_with_what_it_spent():
    account = Account(Budget(max_usd=1.0, max_tokens=1_000), spent=Amount(usd=0.9, tokens=10))
    reason = account.set_aside("a", Amount(usd=0.2, tokens=10))
    assert reason is not None
    assert "1.1000" in reason
    assert account.set_aside("a", Amount(usd=0.1, tokens=10)) is None
