"""Build the notebooks: every `notebooks/N_*.py` becomes an executed `.ipynb`, or the build says why not.

    python notebooks/build.py [--into FOLDER] [FILE ...]

A cell that fails ends its notebook, and its traceback stands in the `.ipynb`; the others are built all the same, and
the exit code is 1. Figures in the prose are asserted by the cells beside them, so a figure that has drifted fails, too.
"""

import argparse
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
CELL_S = 120  # of one cell; a whole notebook is meant to take less
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


class OwnKernel(NotebookClient):
    """Runs the cells in this very Python, whatever kernels somebody has installed for his user."""

    def create_kernel_manager(self) -> KernelManager:
        """With no folder to look for kernels in, there is only this one."""
        self.km = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        return self.km


def sources() -> list[Path]:
    """The notebooks in the order in which they are read."""
    return sorted(HERE.glob("[0-9]_*.py"))


def build(source: Path, into: Path) -> float:
    """Execute one notebook and write it with its outputs; the seconds that it took.

    Raises
    ------
    CellExecutionError, CellTimeoutError, DeadKernelError
        A cell failed, or took too long. What there is by then is written.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = KERNEL
    started = time.monotonic()
    try:
        OwnKernel(notebook, timeout=CELL_S, resources={"metadata": {"path": str(HERE.parent)}}).execute()
    finally:
        nbformat.write(notebook, into / f"{source.stem}.ipynb")
    return time.monotonic() - started


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The number of notebooks that failed, 1 at most."""
    parser = argparse.ArgumentParser(description="Build and execute the notebooks.")
    parser.add_argument("files", nargs="*", type=Path, help="Some of them; all, if none is named.")
    parser.add_argument("--into", type=Path, default=BUILT, help="Folder for the .ipynb files.")
    told = parser.parse_args(arguments)
    into = told.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="promptbandit-notebooks-") as scratch:
        leave_home_alone(scratch, into)
        for source in told.files or sources():
            try:
                print(f"{source.stem:<24} {build(source, into):6.1f} s", flush=True)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                print(f"{source.stem:<24} failed\n{error}", flush=True)
                failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
