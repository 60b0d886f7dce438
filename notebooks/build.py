"""Build the notebooks: every `notebooks/N_*.py` becomes an executed `.ipynb`, or the build says why not.

    python notebooks/build.py [--jobs N] [--into FOLDER] [FILE ...]

A cell that fails ends its notebook, and its traceback stands in the `.ipynb`; the others are built all the same, and
the exit code is 1. Figures in the prose are asserted by the cells beside them, so a figure that has drifted fails, too.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = Path(__file__).resolve().parent
BUILT = HERE / "built"
CELL_S = 600  # of one cell, on a busy machine; on an idle one no whole notebook takes a fifth of it
MOST_JOBS = 4  # each holds up to half a gigabyte
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


class OwnKernel(NotebookClient):
    """Runs the cells in this very Python, whatever kernels somebody has installed for his user."""

    def create_kernel_manager(self) -> KernelManager:
        """With no folder to look for kernels in, there is only this one; sockets in a folder need no free port."""
        folder = tempfile.mkdtemp(dir=os.environ["JUPYTER_RUNTIME_DIR"])
        self.km = AsyncKernelManager(
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            transport="ipc",
            ip=str(Path(folder) / "socket"),
            connection_file=str(Path(folder) / "kernel.json"),
        )
        return self.km


def sources() -> list[Path]:
    """The notebooks in the order in which they are read."""
    return sorted(HERE.glob("[0-9]_*.py"))


async def build(source: Path, into: Path) -> str:
    """Execute one notebook and write it with its outputs; how long it took, and how many pictures it shows.

    Raises
    ------
    CellExecutionError, CellTimeoutError, DeadKernelError
        A cell failed, or took too long. What there is by then is written.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = KERNEL
    started = time.monotonic()
    folder = {"metadata": {"path": str(HERE.parent)}}
    try:
        await OwnKernel(notebook, timeout=CELL_S, startup_timeout=CELL_S, resources=folder).async_execute()
    finally:
        nbformat.write(notebook, into / f"{source.stem}.ipynb")
    return f"{time.monotonic() - started:6.1f} s  {pictures(notebook)} pictures"


def pictures(notebook: nbformat.NotebookNode) -> int:
    """Outputs that are drawings."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return sum("image/svg+xml" in output.get("data", {}) for output in outputs)


async def build_all(files: Sequence[Path], into: Path, *, jobs: int) -> int:
    """Build them side by side and say how each went, in the order of finishing; how many failed."""
    turn = asyncio.Semaphore(jobs)

    async def built(source: Path) -> bool:
        async with turn:
            try:
                print(f"{source.stem:<24} {await build(source, into)}", flush=True)
            except (CellExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as error:
                print(f"{source.stem:<24} failed\n{error}", flush=True)
                return False
        return True

    return (await asyncio.gather(*map(built, files))).count(False)


def leave_home_alone(scratch: str, into: Path) -> None:
    """History, settings and compiled code of the kernels; compiled code is kept for the next build."""
    os.environ |= {
        "IPYTHONDIR": scratch,
        "JUPYTER_CONFIG_DIR": scratch,
        "JUPYTER_RUNTIME_DIR": scratch,
        "JUPYTER_PLATFORM_DIRS": "1",
        "MPLCONFIGDIR": scratch,
    }
    os.environ.setdefault("PYTENSOR_FLAGS", f"base_compiledir={into / 'compiled'}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the notebooks side by side are the threads


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all were built, 1 if one failed."""
    parser = argparse.ArgumentParser(description="Build and execute the notebooks.")
    parser.add_argument("files", nargs="*", type=Path, help="Some of them; all, if none is named.")
    parser.add_argument("--into", type=Path, default=BUILT, help="Folder for the .ipynb files.")
    jobs = min(os.cpu_count() or 1, MOST_JOBS)
    parser.add_argument("--jobs", type=int, default=jobs, help="How many at a time (%(default)s).")
    told = parser.parse_args(arguments)
    into = told.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="promptbandit-notebooks-") as scratch:
        leave_home_alone(scratch, into)
        return min(asyncio.run(build_all(told.files or sources(), into, jobs=max(told.jobs, 1))), 1)


if __name__ == "__main__":
    sys.exit(main())
