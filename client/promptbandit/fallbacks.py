"""The prompts shipped in code, for the times when no server answers."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from promptbandit.records import Assignment, Version


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    system_prompt: Annotated[str, msgspec.Meta(pattern=r"\S")]
    tools_config: list[Any] | dict[str, Any] = msgspec.field(default_factory=list)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class Fallbacks:
    """Hard-coded prompts by name.

    They are kept as JSON and decoded for every unit: an agent that changes the `tools_config` it got
    must not change the next call's.
    """

    def __init__(self, prompts: Mapping[str, str | Mapping[str, Any]]) -> None:
        self._encoded = {name: _encode(name, value) for name, value in prompts.items()}

    def assignment(self, prompt: str, unit_id: str) -> Assignment | None:
        """What `unit_id` gets without a server; None when there is no fallback of this name."""
        encoded = self._encoded.get(prompt)
        if encoded is None:
            return None
        version = msgspec.json.decode(encoded, type=Version)
        return Assignment(
            prompt=prompt, unit_id=unit_id, version=version, reason="DEFAULT", source="fallback"
        )


def _encode(name: str, value: str | Mapping[str, Any]) -> bytes:
    try:
        content = msgspec.convert(
            {"system_prompt": value} if isinstance(value, str) else dict(value), _Content
        )
        version = Version(
            id=None,
            number=None,
            name=name,
            system_prompt=content.system_prompt,
            tools_config=content.tools_config,
            metadata=content.metadata,
            content_hash=content_hash(content.system_prompt, content.tools_config),
        )
        return msgspec.json.encode(version)
    except (TypeError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise ValueError(
            f"fallbacks[{name!r}]: {error}; write the text, or "
            '{"system_prompt": "...", "tools_config": [...], "metadata": {...}}'
        ) from error


def content_hash(system_prompt: str, tools_config: list[Any] | dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of what the model gets: the same hash that the server computes."""
    content = {"system_prompt": system_prompt, "tools_config": tools_config}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
