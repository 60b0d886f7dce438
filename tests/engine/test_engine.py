"""The package as a whole: its public names, its examples, its imports."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parent
MODULES = sorted(path.stem for path in ROOT.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", engine.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(engine, name).__doc__
    assert name in dir(engine)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_are_true(name):
    result = doctest.testmod(import_module(f"engine.{name}"))
    assert result.failed == 0


def test_engine_power_is_the_module_and_holds_the_function():
    assert engine.power.power(baseline=0.5, minimum_detectable_effect=0.25, per_arm=50) == pytest.approx(
        0.740, abs=5e-4
    )
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'z_tset'"):
        _ = engine.z_tset


def test_assigning_a_unit_loads_neither_numpy_nor_scipy():
    code = (
        "import sys, engine.assignment as a; a.bucket('s', 'u'); print({'numpy', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
