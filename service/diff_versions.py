"""Show what changed between two versions of one prompt."""

import difflib
import json
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import VersionOfOtherPrompt
from domain.prompts import PromptVersion, VersionDiff
from service.find import version_of


async def diff_versions(connection: AsyncConnection, version_id: int, other_id: int) -> VersionDiff:
    """Unified diffs from the first version to the other; VersionOfOtherPrompt when they do not compare."""
    version = await version_of(connection, version_id)
    other = await version_of(connection, other_id)
    if version.prompt != other.prompt:
        raise VersionOfOtherPrompt(version_id=other_id, other=other.prompt, prompt=version.prompt)
    return VersionDiff(
        version_id=version_id,
        other_id=other_id,
        system_prompt=_diff(version.system_prompt, other.system_prompt, version, other),
        tools_config=_diff(_text(version.tools_config), _text(other.tools_config), version, other),
        metadata=_diff(_text(version.metadata), _text(other.metadata), version, other),
    )


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def diff_text(before: str, after: str, *, old: str, new: str) -> str:
    """A unified diff by lines; empty exactly when nothing changed, line ends included."""
    # Not splitlines(): it would hide a newline at the end, and `\r\n` turned into `\n`.
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), old, new, lineterm="")
    return "\n".join(lines)


def _diff(before: str, after: str, version: PromptVersion, other: PromptVersion) -> str:
    old, new = (f"{item.prompt} #{item.number}" for item in (version, other))
    return diff_text(before, after, old=old, new=new)
