"""Reference numbers made outside of this repository: 30-digit values, papers, peers' test suites."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference"


@cache
def reference(name: str) -> Any:
    """The parsed file `name`.json; skips the test where the folder is not there (a checkout without it)."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} is not part of this checkout; the numbers written in the tests still hold")
    return json.loads(path.read_text())


def cases(name: str, *, category: str) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`, one per case of a category (its id, else its position)."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        reason = f"{path} is not part of this checkout; the numbers written in the tests still hold"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [
        pytest.param(case, id=str(case.get("id", position)))
        for position, case in enumerate(_of_category(reference(name), category))
    ]


def _of_category(content: Any, category: str) -> list[dict[str, Any]]:
    if isinstance(content, list):  # paper_cases: the category is the beginning of the id
        return [case for case in content if case["id"].startswith(category)]
    if "vectors" in content:  # peer_vectors
        return [case for case in content["vectors"] if case["category"] == category]
    return list(content[category])  # high_precision
