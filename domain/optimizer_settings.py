"""The optimizer's settings. The server accepts their names and reads none of them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

_Model = Annotated[str, Meta(min_length=1, max_length=100)]
# The key travels with every request: in the clear only within this machine.
_SAFE_URL = r"^(https://\S+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/\S*)?)$(?!\n)"
_PRICES = r"^$(?!\n)|^[\w.-]+=[\d.]+/[\d.]+(,[\w.-]+=[\d.]+/[\d.]+)*$(?!\n)"


class OptimizerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field is the variable `PROMPTBANDIT_<FIELD>` of the optimizer's process."""

    anthropic_api_key: Annotated[
        str,
        Meta(
            max_length=500,
            pattern=r"^[\x21-\x7e]*$(?!\n)",
            description="The optimizer's own key, best of a workspace with a spend limit; only in its environment",
        ),
    ] = ""
    anthropic_base_url: Annotated[
        str, Meta(pattern=_SAFE_URL, description="Where the Messages API is; https, or http on this machine")
    ] = "https://api.anthropic.com"
    optimizer_map_model: Annotated[_Model, Meta(description="Reads one call at a time")] = "claude-haiku-5-5"
    optimizer_reduce_model: Annotated[_Model, Meta(description="Merges notes into patterns")] = (
        "claude-opus-5-5"
    )
    optimizer_propose_model: Annotated[_Model, Meta(description="Writes suggestions")] = "claude-opus-5-5"
    optimizer_critic_model: Annotated[_Model, Meta(description="Objects to a suggestion")] = "claude-opus-5-5"
    optimizer_max_output_tokens: Annotated[
        int, Meta(ge=256, le=128_000, description="The most that one answer may have, thinking included")
    ] = 16_000
    optimizer_max_cost_usd: Annotated[
        float, Meta(gt=0.0, le=10_000.0, description="The most that one run may cost")
    ] = 5.0
    optimizer_max_month_usd: Annotated[
        float,
        Meta(gt=0.0, le=100_000.0, description="The most that all runs of a calendar month (UTC) may cost"),
    ] = 50.0
    optimizer_max_tokens: Annotated[
        int, Meta(ge=1_000, le=10**9, description="The most tokens of one run, in and out")
    ] = 2_000_000
    optimizer_prices: Annotated[
        str,
        Meta(
            max_length=2_000,
            pattern=_PRICES,
            description="Prices that differ from the table: model=in/out in USD per million tokens, comma-separated",
        ),
    ] = ""
    optimizer_batch: Annotated[
        bool, Meta(description="Read calls through the Batch API: half the price, up to 24 hours")
    ] = False
    optimizer_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3_600.0, description="How long one answer may take")
    ] = 300.0
    optimizer_max_retries: Annotated[
        int, Meta(ge=0, le=10, description="How often a request that was not served is sent again")
    ] = 3
    optimizer_max_retry_wait_s: Annotated[
        float,
        Meta(ge=0.0, le=300.0, description="The longest wait before a retry; asked for more, the run ends"),
    ] = 30.0

    def __repr__(self) -> str:
        """Everything but the key: a record that reaches a log must not carry it."""
        shown: dict[str, Any] = msgspec.structs.asdict(self)
        shown["anthropic_api_key"] = "(set)" if self.anthropic_api_key else ""
        return f"OptimizerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def model_of(self, stage: str) -> str:
        """The model of a stage: map, reduce, propose or critic."""
        model: str = getattr(self, f"optimizer_{stage}_model")
        return model
