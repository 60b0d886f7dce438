"""The fallback file: the prompt to serve per name while nothing else is known."""

from pathlib import Path
from typing import Any

import msgspec

from domain.fields import JsonObject, PromptText, Request, ToolsConfig
from domain.prompts import ServedVersion, content_hash


class FallbackPrompt(Request, frozen=True, kw_only=True):
    """One hard-coded prompt."""

    system_prompt: PromptText
    tools_config: ToolsConfig = msgspec.field(default_factory=list)
    metadata: JsonObject = msgspec.field(default_factory=dict)


def load_fallbacks(path: str) -> dict[str, ServedVersion]:
    """The fallbacks by prompt name; a value is the text, or an object with system_prompt and tools_config.

    Raises
    ------
    ValueError : the file is missing or wrong; a server must not start without what it promises.
    """
    if not path:
        return {}
    try:
        found = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any])
        return {name: _served(name, value) for name, value in found.items()}
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(
            f"PROMPTBANDIT_FALLBACK_FILE == {path!r}: {error}; "
            'write {"support": "You are ..."} or {"support": {"system_prompt": "..."}}'
        ) from error


def _served(name: str, value: Any) -> ServedVersion:
    prompt = msgspec.convert({"system_prompt": value} if isinstance(value, str) else value, FallbackPrompt)
    return ServedVersion(
        id=None,
        number=None,
        name=name,
        system_prompt=prompt.system_prompt,
        tools_config=prompt.tools_config,
        metadata=prompt.metadata,
        content_hash=content_hash(prompt.system_prompt, prompt.tools_config),
    )
