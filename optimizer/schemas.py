"""A record of `answers` as the JSON schema that structured output takes."""

from functools import cache
from typing import Any

import msgspec
from anthropic import transform_schema

from optimizer.answers import Answer


@cache
def schema_of(answer: type[Answer]) -> dict[str, Any]:
    """The API refuses bounds such as maxLength; the SDK moves them into the descriptions."""
    schema = msgspec.json.schema(answer)
    definitions = dict(schema["$defs"])
    root = definitions.pop(answer.__name__)
    return transform_schema(root | ({"$defs": definitions} if definitions else {}))
