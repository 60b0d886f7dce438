"""A process that runs the optimizer and kills itself at a moment: DATABASE_URL PROVIDER_URL SEED STATE DONE."""

import asyncio
import os
import signal
import sys

from storage.database import Database
from tests.optimizer.shop_calls import run


async def main(database_url: str, url: str, seed: str, state: str, done: str) -> None:
    def watch(at: str, number: int, _: int) -> None:
        if (at, number) == (state, int(done)):
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(database_url)
    # A lease of no time: the next one need not wait for that of the dead.
    await run(database, url, seed=seed, watch=watch, lease_s=0.0)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
