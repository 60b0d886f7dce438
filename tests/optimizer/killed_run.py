"""Runs of the optimizer that kill themselves: each line of its input is DATABASE_URL PROVIDER_URL SEED STATE DONE.

Each run is a process of its own; what all of them import is imported once. Its exit code is answered.
"""

import asyncio
import os
import signal
import sys

from storage.database import Database
from tests.optimizer.shop_calls import run


async def run_until(database_url: str, url: str, seed: str, state: str, done: str) -> None:
    def watch(at: str, number: int, _: int) -> None:
        if (at, number) == (state, int(done)):
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(database_url)
    # A lease of no time: the next one need not wait for that of the dead.
    await run(database, url, seed=seed, watch=watch, lease_s=0.0)
    await database.close()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(run_until(*line.split()))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
