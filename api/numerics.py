"""The verbs that compute. numpy and scipy take half a second to import, so they load after the first answer.

Calls need none of them. Whoever does awaits `loaded()` before a transaction begins, then calls the verb as
`numerics.report(...)`.
"""

import asyncio
import gc
from importlib import import_module
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.approve import approve
    from service.change_variants import add_variant, retire_variant
    from service.propose import judge, propose
    from service.reallocate import ids_to_pass, reallocate_fully
    from service.report import report
    from service.start_experiment import start_ab_test, start_experiment
    from service.stop_experiment import stop_experiment

__all__ = [
    "add_variant",
    "approve",
    "ids_to_pass",
    "judge",
    "load_soon",
    "loaded",
    "propose",
    "reallocate_fully",
    "report",
    "retire_variant",
    "start_ab_test",
    "start_experiment",
    "stop_experiment",
]

# Name of the verb: its module.
_HOMES = {
    "add_variant": "service.change_variants",
    "approve": "service.approve",
    "ids_to_pass": "service.reallocate",
    "judge": "service.propose",
    "propose": "service.propose",
    "reallocate_fully": "service.reallocate",
    "report": "service.report",
    "retire_variant": "service.change_variants",
    "start_ab_test": "service.start_experiment",
    "start_experiment": "service.start_experiment",
    "stop_experiment": "service.stop_experiment",
}
SOON_S = 1.0  # after the start: the first calls are answered before
_is_loaded = Event()
_one_at_a_time = Lock()  # two threads inside a package that imports in circles may see half a module


async def load_soon() -> None:
    """Load them when the server has begun to answer, so that the first report does not wait."""
    await asyncio.sleep(SOON_S)
    await loaded()
    # What is imported stays for ever. When the garbage collector looks at everything, no call is answered
    # for 0.1 s on account of it; so it looks at the rest alone.
    gc.freeze()


async def loaded() -> None:
    """Wait until they are loaded, in a thread: calls are answered meanwhile."""
    if not _is_loaded.is_set():
        await asyncio.to_thread(_load)


def _load() -> None:
    with _one_at_a_time:
        for home in _HOMES.values():
            import_module(home)
    _is_loaded.set()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
