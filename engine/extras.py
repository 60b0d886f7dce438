"""Libraries that not everybody installs, loaded when somebody asks for what they do."""

from importlib import import_module
from typing import Any


class ExtraMissing(ValueError):
    """Something was asked for whose library is not installed; the message says which extra brings it."""


def load(module: str, *, extra: str, what: str) -> Any:
    """A module of an optional dependency.

    Parameters
    ----------
    module : Its import name.
    extra : Of this distribution, that brings it.
    what : What needs it, as the message begins.

    Raises
    ------
    ExtraMissing
        It is not installed.

    Examples
    --------
    >>> load("not_there", extra="science", what="Pictures")
    Traceback (most recent call last):
    engine.extras.ExtraMissing: Pictures need not_there, which is not installed here; install the extra `science` \
(pip install 'promptbandit-service[science]')
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is installed, and broken: what it lacks says why
        raise ExtraMissing(
            f"{what} need {module}, which is not installed here; "
            f"install the extra `{extra}` (pip install 'promptbandit-service[{extra}]')"
        ) from error
