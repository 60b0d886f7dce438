"""Prompts and their immutable versions."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import folded
from domain.prompts import NewVersion, PromptVersion, ServedVersion
from storage.bulk import select_among
from storage.schema import prompt_versions as v
from storage.schema import prompts as p

_VERSIONS = (
    sa.select(
        v,
        p.c.name.label("prompt"),
        sa.func.coalesce(p.c.active_version_id == v.c.id, sa.false()).label("is_active"),
    )
    .select_from(v.join(p, v.c.prompt_id == p.c.id))
    .order_by(p.c.name, v.c.number)
)
_HASHES = sa.select(v.c.prompt_id, v.c.content_hash, v.c.id)


def _version(row: sa.Row[Any]) -> PromptVersion:
    return PromptVersion(
        id=row.id,
        prompt=row.prompt,
        name=row.prompt,
        number=row.number,
        system_prompt=row.system_prompt,
        tools_config=row.tools_config,
        metadata=row.metadata,
        content_hash=row.content_hash,
        is_active=bool(row.is_active),
        parent_id=row.parent_id,
        suggestion_id=row.suggestion_id,
        author=row.author,
        created_at=row.created_at,
    )


async def find_prompt_id(connection: AsyncConnection, name: str) -> int | None:
    """The id of the prompt of exactly this name."""
    return await connection.scalar(sa.select(p.c.id).where(p.c.name == name))


async def find_prompt_ids(connection: AsyncConnection, names: Sequence[str]) -> dict[str, int]:
    """The ids of the prompts of these names; unknown names are left out."""
    rows = await connection.execute(sa.select(p.c.name, p.c.id).where(p.c.name.in_(names)))
    return {row.name: row.id for row in rows}


async def find_name_of(connection: AsyncConnection, name: str) -> str | None:
    """The name under which a prompt of this name, whatever the case, is stored."""
    return await connection.scalar(sa.select(p.c.name).where(p.c.name_folded == folded(name)))


async def insert_prompt(connection: AsyncConnection, name: str, now: dt.datetime) -> int:
    """A new prompt with nothing active; its id."""
    query = sa.insert(p).values(name=name, name_folded=folded(name), created_at=now).returning(p.c.id)
    return int((await connection.execute(query)).scalar_one())


async def insert_version(
    connection: AsyncConnection,
    new: NewVersion,
    *,
    prompt_id: int,
    content_hash: str,
    author: str,
    now: dt.datetime,
    suggestion_id: int | None = None,
) -> int:
    """A new version with the prompt's next number; its id. The caller holds the prompt's lock."""
    last = await connection.scalar(sa.select(sa.func.max(v.c.number)).where(v.c.prompt_id == prompt_id))
    query = (
        sa.insert(v)
        .values(
            prompt_id=prompt_id,
            number=(last or 0) + 1,
            system_prompt=new.system_prompt,
            tools_config=new.tools_config,
            metadata=new.metadata,
            content_hash=content_hash,
            parent_id=new.parent_id,
            suggestion_id=suggestion_id,
            author=author,
            created_at=now,
        )
        .returning(v.c.id)
    )
    return int((await connection.execute(query)).scalar_one())


async def find_same_content(
    connection: AsyncConnection, prompt_id: int, content_hash: str
) -> PromptVersion | None:
    """The version of this prompt that already has this content."""
    query = _VERSIONS.where(v.c.prompt_id == prompt_id, v.c.content_hash == content_hash)
    row = (await connection.execute(query)).first()
    return _version(row) if row else None


async def find_version(connection: AsyncConnection, version_id: int) -> PromptVersion | None:
    """One version."""
    row = (await connection.execute(_VERSIONS.where(v.c.id == version_id))).first()
    return _version(row) if row else None


async def prompt_id_of(connection: AsyncConnection, version_id: int) -> int | None:
    """The prompt that a version belongs to."""
    return await connection.scalar(sa.select(v.c.prompt_id).where(v.c.id == version_id))


async def list_versions(
    connection: AsyncConnection, *, prompt: str | None = None, limit: int = 1_000, offset: int = 0
) -> list[PromptVersion]:
    """Versions by prompt name and number."""
    query = _VERSIONS.limit(limit).offset(offset)
    if prompt is not None:
        query = query.where(p.c.name == prompt)
    return [_version(row) for row in await connection.execute(query)]


async def served_versions(connection: AsyncConnection, ids: set[int]) -> dict[int, ServedVersion]:
    """What calls get of these versions, by id."""
    rows = await connection.execute(_VERSIONS.where(v.c.id.in_(ids)))
    return {row.id: _version(row).served() for row in rows}


async def version_ids_of(
    connection: AsyncConnection, contents: Collection[tuple[int, str]]
) -> dict[tuple[int, str], int]:
    """The versions with these contents (prompt id, content hash); what is not stored is left out."""
    rows = await select_among(connection, _HASHES, (v.c.prompt_id, v.c.content_hash), contents)
    return {(row.prompt_id, row.content_hash): row.id for row in rows}


async def set_active(connection: AsyncConnection, prompt_id: int, version_id: int) -> None:
    """Make the version the active one. The caller holds the prompt's lock."""
    await connection.execute(sa.update(p).where(p.c.id == prompt_id).values(active_version_id=version_id))


async def active_version_id(connection: AsyncConnection, prompt_id: int) -> int | None:
    """The active version of a prompt."""
    return await connection.scalar(sa.select(p.c.active_version_id).where(p.c.id == prompt_id))


async def list_prompts(connection: AsyncConnection) -> list[tuple[int, str, int | None]]:
    """Id, name and active version of every prompt."""
    rows = await connection.execute(sa.select(p.c.id, p.c.name, p.c.active_version_id).order_by(p.c.name))
    return [(row.id, row.name, row.active_version_id) for row in rows]
