"""Make a version the active one of its prompt."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import VersionNotFound
from domain.prompts import PromptVersion
from service.find import version_of
from storage.audit import append_audit
from storage.locks import lock_prompt
from storage.prompts import active_version_id, prompt_id_of, set_active


async def activate_version(
    connection: AsyncConnection, version_id: int, *, actor: str, now: dt.datetime
) -> PromptVersion:
    """Serve this version where no experiment runs; activating the active one changes nothing."""
    prompt_id = await prompt_id_of(connection, version_id)
    if prompt_id is None:
        raise VersionNotFound(version_id=version_id)
    await lock_prompt(connection, prompt_id)
    before = await active_version_id(connection, prompt_id)
    if before != version_id:
        await set_active(connection, prompt_id, version_id)
        await append_audit(
            connection,
            actor=actor,
            action="activate_version",
            record_type="prompt_version",
            record_id=version_id,
            now=now,
            before={"active_version_id": before},
            after={"active_version_id": version_id},
        )
    return await version_of(connection, version_id)
