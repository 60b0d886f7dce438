"""Prompt versions: immutable content with a hash."""

import datetime as dt
import hashlib
from typing import Any

import msgspec

from domain.errors import InvalidValue
from domain.fields import (
    Author,
    Id,
    JsonObject,
    Name,
    PromptText,
    Record,
    Request,
    ToolsConfig,
    is_reserved_file_name,
)


class ServedVersion(Record, frozen=True, kw_only=True):
    """What a call gets: the content and where it comes from (id and number are null for the fallback)."""

    id: int | None
    number: int | None
    name: str
    system_prompt: str
    tools_config: ToolsConfig
    metadata: JsonObject
    content_hash: str


class PromptVersion(Record, frozen=True, kw_only=True):
    """One immutable version of a prompt."""

    id: int
    prompt: str
    name: str
    number: int
    system_prompt: str
    tools_config: ToolsConfig
    metadata: JsonObject
    content_hash: str
    is_active: bool
    parent_id: int | None
    suggestion_id: int | None
    author: str
    created_at: dt.datetime

    def served(self) -> ServedVersion:
        """The part of the version that a call needs."""
        return ServedVersion(
            id=self.id,
            number=self.number,
            name=self.name,
            system_prompt=self.system_prompt,
            tools_config=self.tools_config,
            metadata=self.metadata,
            content_hash=self.content_hash,
        )


class NewVersion(Request, frozen=True, kw_only=True):
    """`POST /prompts`: a new version; the first of a name creates the prompt and becomes active."""

    name: Name
    system_prompt: PromptText
    tools_config: ToolsConfig = msgspec.field(default_factory=list)
    metadata: JsonObject = msgspec.field(default_factory=dict)
    parent_id: Id | None = None
    author: Author | None = None


class VersionDiff(Record, frozen=True, kw_only=True):
    """Two versions side by side: unified diffs, empty where nothing changed."""

    version_id: int
    other_id: int
    system_prompt: str
    tools_config: str
    metadata: str


def check_new_version(new: NewVersion) -> None:
    """Raise InvalidValue when the name could not be a file name."""
    if is_reserved_file_name(new.name):
        raise InvalidValue(pointer="/name", problem=f"{new.name!r} cannot be a file name; choose another")


def content_hash(system_prompt: str, tools_config: ToolsConfig) -> str:
    """SHA-256 (hex) of the canonical JSON (sorted keys, no blanks, UTF-8) of what the model gets.

    >>> content_hash("Hello", {"b": 1, "a": 2}) == content_hash("Hello", {"a": 2, "b": 1})
    True
    """
    content = {"system_prompt": system_prompt, "tools_config": tools_config}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no blanks, so that equal values have equal bytes."""
    return msgspec.json.encode(value, order="deterministic")
