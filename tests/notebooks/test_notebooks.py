"""How notebooks are written, and that a figure that has drifted fails `make notebooks`, which executes them all."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
BUILD = FOLDER / "build.py"
SOURCES = sorted(FOLDER.glob("[0-9]_*.py"))
MARKED = re.compile(r"^# %%(?: \[markdown\])?$", re.MULTILINE)


GOOD = """\
# %% [markdown]
# # A title

# %%
import altair as alt

import engine

alt.renderers.enable("svg")
6 * 7

# %%
alt.Chart({"values": [{"calls": 1}, {"calls": 2}]}).mark_point().encode(x="calls:Q")
"""
DRIFTED = """\
# %% [markdown]
# Half of them.

# %%
share = 0.4
assert share == 0.5
"""


def run(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Elsewhere than in the repository: a reader may start a notebook from any folder."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
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
def test_a_notebook_is_built_with_its_pictures_and_one_that_has_drifted_fails(tmp_path: Path):
    good, drifted, home = tmp_path / "1_good.py", tmp_path / "2_drifted.py", tmp_path / "home"
    good.write_text(GOOD)
    drifted.write_text(DRIFTED)
    home.mkdir()
    done = run(
        BUILD, drifted, good, "--jobs", "2", "--into", tmp_path / "built", cwd=tmp_path, HOME=str(home)
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^2_drifted\s+failed\n", done.stdout, re.MULTILINE)
    assert re.search(r"^1_good\s+\d+\.\d s  1 pictures$", done.stdout, re.MULTILINE)  # built all the same
    assert "AssertionError" in done.stdout
    built = json.loads((tmp_path / "built" / "1_good.ipynb").read_text())
    assert [cell["cell_type"] for cell in built["cells"]] == ["markdown", "code", "code"]
    number, picture = (cell["outputs"][0]["data"] for cell in built["cells"][1:])
    assert number["text/plain"] == ["42"]
    assert "".join(picture["image/svg+xml"]).startswith("<svg")
    failed = json.loads((tmp_path / "built" / "2_drifted.ipynb").read_text())
    assert failed["cells"][1]["outputs"][0]["ename"] == "AssertionError"
    assert list(home.iterdir()) == []


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
    assert any(".plot(" in text or "alt.Chart(" in text for text in code)
    # Most cells assert something: a figure of the prose has to be one that a cell checks.
    assert sum("assert " in text for text in code) >= len(code) / 2
