"""SECURITY.md says what is so: every test that it names exists, and what it says of the code holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = ("api", "domain", "engine", "migrations", "service", "storage")
CLIENTS = {"aiohttp", "ftplib", "http", "httpx", "requests", "smtplib", "urllib3"}


def threats() -> dict[str, tuple[str, list[str]]]:
    """What is done about each threat, and the tests that show it."""
    lines = (ROOT / "SECURITY.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| T\d+ ", line)]
    return {
        cells[0].split()[0]: (cells[1], re.findall(r"`(tests/[\w/]+\.py::\w+)`", " ".join(cells[2:])))
        for cells in rows
    }


def functions(module: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_threat_is_answered_by_a_test_or_openly_not_yet():
    assert list(threats()) == [f"T{number}" for number in range(1, 16)]
    open_ones = [
        name for name, (done, tests) in threats().items() if not tests and "not built yet" not in done
    ]
    assert open_ones == []


@pytest.mark.parametrize("named", sorted({test for _, tests in threats().values() for test in tests}))
def test_a_named_test_exists(named: str):
    module, function = named.split("::")
    assert function in functions(ROOT / module)


def imported(module: Path) -> set[str]:
    """The packages that a module imports, wherever in it; `urllib.request` under its whole name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name if name.startswith("urllib.request") else name.split(".")[0] for name in names}


def test_the_server_can_make_no_http_request():
    """So nobody can make it ask for what he may not reach himself; `http` holds its status names, too."""
    modules = [module for part in SERVER for module in (ROOT / part).rglob("*.py")]
    assert len(modules) > 100
    forbidden = CLIENTS | {"urllib.request"}
    found = {str(module.relative_to(ROOT)): imported(module) & forbidden for module in modules}
    assert {name: names for name, names in found.items() if names} == {"api/openapi.py": {"http"}}
    assert "HTTPStatus" in (ROOT / "api" / "openapi.py").read_text()
