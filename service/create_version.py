"""Create a prompt version; the first of a name creates the prompt and becomes active."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import InvalidValue, NameTaken, SameContent
from domain.prompts import NewVersion, PromptVersion, check_new_version, content_hash
from service.find import version_of
from storage.audit import append_audit
from storage.locks import lock_prompt
from storage.prompts import (
    active_version_id,
    find_name_of,
    find_prompt_id,
    find_same_content,
    insert_prompt,
    insert_version,
    prompt_id_of,
    set_active,
)


async def create_version(
    connection: AsyncConnection,
    new: NewVersion,
    *,
    actor: str,
    now: dt.datetime,
    suggestion_id: int | None = None,
) -> PromptVersion:
    """Store an immutable version with the prompt's next number.

    A prompt whose versions nobody activated yet serves its first one: an assignment needs something
    to give. Later versions stay inactive until somebody activates them.

    Raises
    ------
    SameContent : a version with the same system_prompt and tools_config exists; it is named.
    NameTaken : a prompt of this name in another case exists.
    InvalidValue : the parent belongs to another prompt, or the name cannot be a file name.
    """
    check_new_version(new)
    prompt_id = await _prompt(connection, new.name, now)
    await lock_prompt(connection, prompt_id)
    digest = content_hash(new.system_prompt, new.tools_config)
    same = await find_same_content(connection, prompt_id, digest)
    if same is not None:
        raise SameContent(name=new.name, number=same.number, version_id=same.id)
    if new.parent_id is not None and await prompt_id_of(connection, new.parent_id) != prompt_id:
        raise InvalidValue(pointer="/parent_id", problem=f"{new.parent_id} is no version of {new.name!r}")
    author = new.author or actor
    version_id = await insert_version(
        connection,
        new,
        prompt_id=prompt_id,
        content_hash=digest,
        author=author,
        now=now,
        suggestion_id=suggestion_id,
    )
    # An imported prompt has no versions: the first one that comes is served, as that of a new prompt.
    is_first = await active_version_id(connection, prompt_id) is None
    if is_first:
        await set_active(connection, prompt_id, version_id)
    version = await version_of(connection, version_id)
    await append_audit(
        connection,
        actor=actor,
        action="create_version",
        record_type="prompt_version",
        record_id=version_id,
        now=now,
        after={"prompt": new.name, "number": version.number, "content_hash": digest, "active": is_first},
    )
    return version


async def _prompt(connection: AsyncConnection, name: str, now: dt.datetime) -> int:
    prompt_id = await find_prompt_id(connection, name)
    if prompt_id is not None:
        return prompt_id
    taken = await find_name_of(connection, name)
    if taken is None:
        return await insert_prompt(connection, name, now)
    prompt_id = await find_prompt_id(connection, name)
    if prompt_id is None:
        raise NameTaken(name=taken)
    return prompt_id  # somebody else created it between the two looks
