"""What importing a bridge needs, and what is said without it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_without_its_library_a_bridge_says_what_to_install():
    """Each names the package; and `runtime` itself imports none of the libraries."""
    program = """
import sys, importlib
import runtime
runtime.Trainer
libraries = ("transformers", "lightning", "accelerate")
assert not set(libraries) & set(sys.modules)
for name in libraries:
    sys.modules[name] = None  # is not there
    try:
        importlib.import_module(f"runtime.bridges.{name}")
    except ImportError as error:
        assert "pip install" in str(error) and name in str(error), error
        assert error.name == name
    else:
        raise AssertionError(name)
"""
    done = subprocess.run(  # noqa: S603 - a program of this test
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
