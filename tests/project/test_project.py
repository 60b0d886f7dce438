"""What must hold for the project as a whole."""

import doctest
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import LONGEST_FIRST

ROOT = Path(__file__).resolve().parents[2]


def test_imports_only_point_downwards():
    """The contracts stand in pyproject.toml under [tool.importlinter]."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_changelog_begins_with_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    first = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert first is not None
    assert first[1] in (version, "Unreleased")
    assert re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE)


def test_both_distributions_and_the_server_tell_the_same_version():
    from api.app import VERSION

    ours, clients = (
        tomllib.loads((ROOT / place / "pyproject.toml").read_text())["project"]["version"]
        for place in (".", "client")
    )
    assert ours == clients == VERSION


def pins(lock: str) -> dict[str, str]:
    """The version of each package."""
    found = re.findall(
        r"^([a-z0-9.\-_]+)(?:\[[a-z,]+\])?==([^\s;]+)",
        (ROOT / lock).read_text(),
        re.MULTILINE | re.IGNORECASE,
    )
    return dict(found)


@pytest.mark.parametrize(
    ("lock", "at_least"),
    [
        ("requirements.lock", 50),
        ("requirements-runtime.lock", 30),
        ("requirements-bench.lock", 30),
        ("requirements-audit.lock", 30),
    ],
)
def test_every_dependency_is_pinned_with_a_hash(lock: str, at_least: int):
    text = (ROOT / lock).read_text()
    assert len(pins(lock)) >= at_least
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text)
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "http://" not in text
    assert "https://" not in text


def test_what_a_server_runs_is_what_was_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.match(r"[A-Za-z0-9.\-_]+", line)[0].lower() for line in project["dependencies"]}
    tested, runs = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert wanted <= set(runs)
    assert {name: version for name, version in runs.items() if tested.get(name) != version} == {}
    tools = {"pytest", "hypothesis", "mypy", "ruff", "schemathesis", "pip-audit"}
    assert tools.isdisjoint(runs)


def test_every_dependency_has_a_reason():
    """A new dependency gets a line in docs/decisions/dependencies.md."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = project["project"]["dependencies"] + groups["dev"] + groups["audit"]
    wanted += chain.from_iterable(project["project"]["optional-dependencies"].values())
    names = {re.match(r"[A-Za-z0-9.\-_]+", line)[0].lower() for line in wanted}
    told = (ROOT / "docs" / "decisions" / "dependencies.md").read_text().lower()
    assert {name for name in names if f"`{name}`" not in told} == set()


def test_links_between_documents_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "client").glob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_no_module_has_outgrown_its_name():
    """Our bar: no module over 400 lines; split before it gets there."""
    parts = ("engine", "domain", "storage", "service", "api", "optimizer", "cli", "client", "dashboards")
    long = {
        str(path.relative_to(ROOT)): lines
        for part in parts
        for path in (ROOT / part).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_the_files_that_begin_first_are_there():
    """One that was renamed would begin somewhere."""
    assert [file for file in LONGEST_FIRST if not (ROOT / file).is_file()] == []


def test_examples_in_the_readme_are_true():
    failures, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 0
    assert failures == 0
