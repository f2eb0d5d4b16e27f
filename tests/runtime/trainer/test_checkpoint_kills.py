"""Whenever a process that saves is killed, the newest checkpoint it reported is there and whole."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

TRIALS = 5 * int(os.environ.get("HOTLOOP_SOAK", "1"))


@pytest.mark.slow
def test_sigkill():
    """At random moments, in new checkpoints and in ones that replace older ones."""
    script = Path(__file__).with_name("checkpoint_kills.py")
    spec = importlib.util.spec_from_file_location("checkpoint_kills", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert module.run_kill_trials(TRIALS, seed=int.from_bytes(os.urandom(3), "big")) == []
