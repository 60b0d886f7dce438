"""The ledger on the database: each look and each entry is a transaction of its own, over before a model thinks."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.forgetting import FORGOTTEN
from optimizer.budget import Account, Amount, Budget
from optimizer.ledger import Ledger, LlmCall, Tokens
from storage.database import Database
from storage.llm_calls import find_settled, insert_call, spent_by, spent_since
from storage.optimizer_runs import has_ended, save_run

_COLUMNS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "read": "cache_read_tokens",
    "written": "cache_written_tokens",
}


def ledger_of(database: Database, run_id: int, clock: Callable[[], datetime]) -> Ledger:
    """What one run asked and paid."""

    async def find(request_hash: str) -> LlmCall | None:
        async with database.reading() as connection:
            row = await find_settled(connection, run_id, request_hash)
        return None if row is None else _call(row)

    async def store(call: LlmCall) -> None:
        async with database.writing() as connection:
            row = _row(call)
            if await has_ended(connection, run_id):  # a call that it had read was forgotten meanwhile
                row |= {"response": FORGOTTEN, "detail": ""}
            await insert_call(connection, run_id, row, now=clock())

    async def store_batch(batch_id: str, _: Sequence[str]) -> None:
        # The hashes need no place: they come again from the frozen sample.
        async with database.writing() as connection:
            await save_run(connection, run_id, batch_id=batch_id)

    return Ledger(find=find, store=store, store_batch=store_batch)


async def account_of(database: Database, run_id: int, budget: Budget, *, now: datetime) -> Account:
    """The purse of a run, less what it has spent before, and what others have in the month (UTC)."""
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    async with database.reading() as connection:
        usd, tokens = await spent_by(connection, run_id)
        others_usd = await spent_since(connection, month, besides=run_id)
    return Account(budget, Amount(usd=usd, tokens=tokens), others_usd=others_usd)


def _row(call: LlmCall) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(call)
    tokens: dict[str, int] = fields.pop("tokens")
    return fields | {column: tokens[name] for name, column in _COLUMNS.items()}


def _call(row: dict[str, Any]) -> LlmCall:
    tokens = Tokens(**{name: row[column] for name, column in _COLUMNS.items()})
    names = set(LlmCall.__struct_fields__) - {"tokens"}
    return LlmCall(tokens=tokens, **{name: row[name] for name in names})
