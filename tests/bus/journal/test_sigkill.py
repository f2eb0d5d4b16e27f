"""SIGKILL at random moments; the trials are those of `sigkill.py` beside this file."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def sigkill() -> ModuleType:
    """The script beside this file, as a module."""
    path = Path(__file__).with_name("sigkill.py")
    spec = importlib.util.spec_from_file_location("sigkill", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(2000)
@pytest.mark.parametrize(("durability", "count"), [("interval", 8), ("write", 6)])
def test_sigkill(sigkill, soak, durability, count):
    """Nothing written is lost, nor older than a flush; `durability="write"` loses nothing."""
    assert sigkill.run_sigkill_trials(count * soak, seed=20_260_101, durability=durability) == []
