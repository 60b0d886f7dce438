"""The notebooks run and their figures hold; one that does not run, or has drifted, fails the build."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
BUILD = FOLDER / "build.py"
SOURCES = sorted(FOLDER.glob("[0-9]_*.py"))
# PyMC takes most of a minute to import and compile: `make notebooks` runs it, and `tests/engine` compares the
# sampler with the quadrature.
SLOW = {"6_segments"}
MARKED = re.compile(r"^# %%(?: \[markdown\])?$", re.MULTILINE)


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Elsewhere than in the repository: a reader may start a notebook from any folder."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def cells(source: Path) -> list[tuple[bool, str]]:
    """Whether each cell is prose, and its text."""
    text = source.read_text()
    marks = list(MARKED.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        (mark[0].endswith("[markdown]"), text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "source", [path for path in SOURCES if path.stem not in SLOW], ids=lambda path: path.stem
)
def test_every_figure_of_a_notebook_holds(source: Path, tmp_path: Path):
    """A percent notebook is a plain script, and its asserts check the figures in its prose."""
    done = run(source, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


@pytest.mark.timeout(600)
def test_a_notebook_is_built_with_its_outputs_and_one_that_has_drifted_fails(tmp_path: Path):
    good, drifted = tmp_path / "1_good.py", tmp_path / "2_drifted.py"
    good.write_text("# %% [markdown]\n# # A title\n\n# %%\nimport engine\n\n6 * 7\n")
    drifted.write_text("# %% [markdown]\n# Half of them.\n\n# %%\nshare = 0.4\nassert share == 0.5\n")
    done = run(BUILD, drifted, good, "--into", tmp_path / "built", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"2_drifted\s+failed", lines[0])
    assert any("AssertionError" in line for line in lines)
    assert re.fullmatch(r"1_good\s+\d+\.\d s", lines[-1])  # the others are built all the same
    built = json.loads((tmp_path / "built" / "1_good.ipynb").read_text())
    assert [cell["cell_type"] for cell in built["cells"]] == ["markdown", "code"]
    assert built["cells"][1]["outputs"][0]["data"]["text/plain"] == ["42"]
    failed = json.loads((tmp_path / "built" / "2_drifted.ipynb").read_text())
    assert failed["cells"][1]["outputs"][0]["ename"] == "AssertionError"


def test_the_documented_notebooks_are_the_files():
    guide = (ROOT / "docs" / "data-science.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(\.\./notebooks/(\w+)\.py\)", guide, re.MULTILINE)
    assert [name for name, _ in listed] == [file for _, file in listed] == [path.stem for path in SOURCES]
    assert len(SOURCES) >= 8


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_reader_and_its_question_and_has_no_dead_cells(source: Path):
    found = cells(source)
    is_prose, opening = found[0]
    assert is_prose
    assert opening.startswith("# # ")
    assert "**For** " in opening
    assert "**The question:** " in opening
    code = [text for is_prose, text in found if not is_prose]
    assert all(text for _, text in found)
    assert max(len(text.splitlines()) for text in code) <= 20
    # Most cells assert something: a figure of the prose has to be one that a cell checks.
    assert sum("assert " in text for text in code) >= len(code) / 2
