"""How work under way ends when the server stops."""

import asyncio
from collections.abc import Iterable
from typing import Any

CANCELLING_S = 1.0


async def finish(tasks: Iterable[asyncio.Task[Any]], *, within_s: float) -> None:
    """Wait for the tasks; cancel those that are not done in time, and wait a little for them, too."""
    waiting = set(tasks)
    if not waiting:
        return
    _, late = await asyncio.wait(waiting, timeout=within_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CANCELLING_S)
