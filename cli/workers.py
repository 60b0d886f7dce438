"""Workers of `serve` whose death their supervisor sees at once."""

from uvicorn.supervisors import multiprocess


class Worker(multiprocess.Process):
    """uvicorn's worker process, whose end of the pipe the supervisor does not keep open.

    The supervisor asks each worker every half second whether it is there. It holds the worker's end of the pipe,
    too (uvicorn 0.54), so the answer of a worker that dies meanwhile never comes and never ends: it waits
    until its patience is over, and nobody starts the worker anew. With the end closed, death is an answer.
    """

    def start(self) -> None:
        """Start the process, which has inherited its end by now."""
        super().start()
        self.child_conn.close()


def see_death_at_once() -> None:
    """Let uvicorn's supervisor make workers of ours; it offers no argument for that."""
    multiprocess.Process = Worker  # type: ignore[misc]
