"""The service that one writes first: FastAPI, the SQLAlchemy ORM, one transaction and one commit per request.

It is spared what ours does besides: it keeps no counts, knows the split without asking the database, compares
the key with a constant and takes any body that has the fields. Async throughout, with a pool as large as ours.
"""

import datetime as dt
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

POOL_SIZE = 12
VARIANTS = ("a", "b", "c")


class Base(DeclarativeBase):
    pass


class Call(Base):
    __tablename__ = "plain_calls"
    unit_id: Mapped[str] = mapped_column(primary_key=True)
    prompt: Mapped[str]
    variant: Mapped[str]
    started_at: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True))
    resolved: Mapped[bool | None]


class NewCall(BaseModel):
    prompt: str
    unit_id: str


class NewOutcome(BaseModel):
    prompt: str
    unit_id: str
    metrics: dict[str, Any]


def create_tables(url: str, calls: int) -> None:
    """The table, with that many calls `call-0`, `call-1`, ... that wait for their outcomes."""
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    row = {"prompt": "bench", "variant": "a", "started_at": dt.datetime.now(dt.UTC), "resolved": None}
    with engine.begin() as connection:
        for first in range(0, calls, 10_000):
            units = range(first, min(first + 10_000, calls))
            connection.execute(sa.insert(Call), [row | {"unit_id": f"call-{unit}"} for unit in units])
    engine.dispose()


def create_app() -> FastAPI:
    """The ASGI application on the database of PROMPTBANDIT_DATABASE_URL."""
    url = os.environ["PROMPTBANDIT_DATABASE_URL"].replace("sqlite:", "sqlite+aiosqlite:")
    engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, pool_timeout=60)
    if url.startswith("sqlite"):
        _make_durable(engine.sync_engine)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    async def check_key(authorization: Annotated[str, Header()] = "") -> None:
        if authorization != f"Bearer {os.environ['PLAIN_KEY']}":
            raise HTTPException(401)

    async def in_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    Session = Annotated[AsyncSession, Depends(in_session)]  # noqa: N806 - a type

    @app.get("/health/ready")
    async def get_ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/assignments", dependencies=[Depends(check_key)])
    async def post_assignment(new: NewCall, session: Session) -> dict[str, Any]:
        call = await session.get(Call, new.unit_id)
        if call is None:
            call = Call(
                unit_id=new.unit_id,
                prompt=new.prompt,
                variant=_variant_of(new.unit_id),
                started_at=dt.datetime.now(dt.UTC),
            )
            session.add(call)
            await session.commit()
        return {
            "prompt": call.prompt,
            "unit_id": call.unit_id,
            "variant": call.variant,
            "system_prompt": "v0",
        }

    @app.post("/outcomes", dependencies=[Depends(check_key)])
    async def post_outcomes(body: NewOutcome | list[NewOutcome], session: Session) -> dict[str, Any]:
        told = body if isinstance(body, list) else [body]
        by_unit = {item.unit_id: item for item in told}
        calls = (await session.scalars(sa.select(Call).where(Call.unit_id.in_(list(by_unit))))).all()
        for call in calls:
            call.resolved = by_unit[call.unit_id].metrics["resolved"]
        await session.commit()
        return {"results": [{"unit_id": call.unit_id, "status": "accepted"} for call in calls]}

    return app


def _variant_of(unit_id: str) -> str:
    return VARIANTS[hashlib.sha256(unit_id.encode()).digest()[0] % len(VARIANTS)]


def _make_durable(engine: sa.Engine) -> None:
    """As durable as ours: WAL, and every commit synced."""

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


if __name__ == "__main__":
    create_tables(sys.argv[1], int(sys.argv[2]))
