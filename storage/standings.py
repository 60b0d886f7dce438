"""How experiments stood, moment by moment, and when the counts were verified."""

import datetime as dt
from collections import defaultdict
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.standings import Judgement, Standing, Verification
from storage.schema import experiments as e
from storage.schema import standings as s
from storage.schema import variants as v
from storage.schema import verifications as f


async def append_judgement(connection: AsyncConnection, judgement: Judgement) -> None:
    """One row a variant."""
    rows = [
        {
            "experiment_id": judgement.experiment_id,
            "at": judgement.at,
            "action": judgement.action,
            "recommended": judgement.recommended,
            "sample_ratio_e_value": judgement.sample_ratio_e_value,
            "sample_ratio_mismatch": judgement.sample_ratio_mismatch,
            **{key: value for key, value in msgspec.structs.asdict(item).items() if key != "variant"},
        }
        for item in judgement.standings
    ]
    await connection.execute(sa.insert(s).returning(s.c.variant_id), rows)  # RETURNING: see storage.database


async def drop_standings(connection: AsyncConnection, experiment_id: int, *, before: dt.datetime) -> None:
    """Forget how the experiment stood long ago."""
    await connection.execute(sa.delete(s).where(s.c.experiment_id == experiment_id, s.c.at < before))


async def last_judged(connection: AsyncConnection, experiment_id: int) -> dt.datetime | None:
    """When the experiment was judged last."""
    query = sa.select(sa.func.max(s.c.at)).where(s.c.experiment_id == experiment_id)
    found: dt.datetime | None = await connection.scalar(query)
    return found


async def newest_judgements(connection: AsyncConnection) -> list[Judgement]:
    """How every running experiment stood last."""
    newest = (
        sa.select(s.c.experiment_id, sa.func.max(s.c.at).label("at"))
        .join(e, e.c.id == s.c.experiment_id)
        .where(e.c.status == "running")
        .group_by(s.c.experiment_id)
        .subquery()
    )
    query = (
        sa.select(s, e.c.key.label("experiment"), e.c.policy, v.c.key.label("variant"))
        .join(newest, (newest.c.experiment_id == s.c.experiment_id) & (newest.c.at == s.c.at))
        .join(e, e.c.id == s.c.experiment_id)
        .join(v, v.c.id == s.c.variant_id)
        .order_by(s.c.experiment_id, v.c.position)
    )
    rows = defaultdict(list)
    for row in await connection.execute(query):
        rows[row.experiment_id].append(row)
    return [_judgement(of_one) for of_one in rows.values()]


async def append_verification(connection: AsyncConnection, verification: Verification) -> None:
    """Note a run of `promptbandit verify`."""
    await connection.execute(sa.insert(f).values(msgspec.structs.asdict(verification)))


async def last_verification(connection: AsyncConnection) -> Verification | None:
    """The newest run of `promptbandit verify`."""
    row = (await connection.execute(sa.select(f).order_by(f.c.at.desc(), f.c.id.desc()).limit(1))).first()
    if row is None:
        return None
    return Verification(
        at=row.at,
        compared=row.compared,
        differences=row.differences,
        first_difference=row.first_difference,
    )


def _judgement(rows: list[sa.Row[Any]]) -> Judgement:
    first = rows[0]
    return Judgement(
        experiment_id=first.experiment_id,
        experiment=first.experiment,
        policy=first.policy["name"],
        at=first.at,
        action=first.action,
        recommended=first.recommended,
        sample_ratio_e_value=first.sample_ratio_e_value,
        sample_ratio_mismatch=first.sample_ratio_mismatch,
        standings=tuple(
            Standing(**{name: getattr(row, name) for name in Standing.__struct_fields__}) for row in rows
        ),
    )
