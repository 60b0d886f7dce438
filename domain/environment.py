"""Settings are read strictly from `PROMPTBANDIT_*` variables; `docs/settings.md` lists them (a test compares)."""

from collections.abc import Iterable, Mapping
from typing import get_type_hints

import msgspec

PREFIX = "PROMPTBANDIT_"


def read_settings[T: msgspec.Struct](kind: type[T], environment: Mapping[str, str]) -> T:
    """The record of the variables that are its own; ValueError names the variable, its value and the bound."""
    found = {name: value for name, value in _ours(environment).items() if name in kind.__struct_fields__}
    for name, value in found.items():
        _check(kind, name, value)
    return msgspec.convert(found, kind, strict=False)


def refuse_unknown(environment: Mapping[str, str], known: Iterable[str]) -> None:
    """ValueError at the first `PROMPTBANDIT_*` variable that no process knows: it is a typing error."""
    names = list(known)
    unknown = sorted(set(_ours(environment)) - set(names))
    if unknown:
        listed = ", ".join(PREFIX + name.upper() for name in names)
        raise ValueError(f"{PREFIX}{unknown[0].upper()} is not a setting; there are {listed}")


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(PREFIX)
    }


def _check(kind: type[msgspec.Struct], name: str, value: str) -> None:
    try:
        msgspec.convert(value, get_type_hints(kind, include_extras=True)[name], strict=False)
    except msgspec.ValidationError as error:
        shown = "(not shown)" if name.endswith("_key") else repr(value)
        raise ValueError(f"{PREFIX}{name.upper()} == {shown}: {error}") from error
