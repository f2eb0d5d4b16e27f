"""examples/finetune.py, run as a program where Transformers is."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.vendors.trainer_process import find_python

ROOT = Path(__file__).resolve().parents[2]
PYTHON = find_python()


@pytest.mark.slow
@pytest.mark.timeout(200)  # importing Transformers takes a busy machine long
@pytest.mark.skipif(
    PYTHON is None,
    reason="needs the transformers package: `make test-vendors`, or set HOTLOOP_HF_PYTHON to an "
    "interpreter with it and with this library's dependencies",
)
def test_fine_tunes_a_model_that_transformers_loads(tmp_path):
    """The loss falls from a guess by a nat and more, and the saved model is read by its library."""
    assert PYTHON is not None
    done = subprocess.run(  # noqa: S603 - our own example
        [PYTHON, "-W", "error", str(ROOT / "examples" / "finetune.py"), "--steps", "60"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=190,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    losses = re.search(r"^loss +([\d.]+) -> ([\d.]+)", done.stdout, flags=re.MULTILINE)
    assert losses is not None, done.stdout
    before, after = map(float, losses.groups())
    assert 5 < before < 6
    assert after < before - 1
    names = {path.name for path in (tmp_path / "finetuned").iterdir()}
    assert {"model.safetensors", "config.json", "checkpoint-60"} <= names
