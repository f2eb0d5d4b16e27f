"""The examples of bridges to libraries that are only in an environment of the vendors'."""

import re
from pathlib import Path

import pytest

from bus import RunInfo
from tests.vendors.programs import find_python, needs, run_program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUN = """
import runpy, sys
from tests.vendors.bridges_parts import register_sinks

register_sinks()
for path in sys.argv[1:]:
    runpy.run_path(path, run_name="__main__")
"""

HF = find_python("HF", "transformers")
LIGHTNING = find_python("LIGHTNING", "lightning")


@pytest.mark.parametrize(
    ("python", "runs"),
    [
        pytest.param(
            HF,
            {
                "bridge_transformers": "bridge_transformers/runs/bridge_transformers",
                "bridge_accelerate": "runs/bridge_accelerate",
            },
            marks=needs(HF, "HF", "transformers and accelerate", timeout=200),
        ),
        pytest.param(
            LIGHTNING,
            {"bridge_lightning": "runs/bridge_lightning"},
            marks=needs(LIGHTNING, "LIGHTNING", "lightning", timeout=200),
        ),
    ],
    ids=["transformers", "lightning"],
)
def test_each_is_stopped(python, runs, tmp_path):
    """By the request that it shows, long before its end; TensorBoard's file is there."""
    files = [str(EXAMPLES / f"{name}.py") for name in runs]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    said = run_program(python, "-c", RUN, *files, folder=tmp_path, environment=environment)

    told = re.findall(r"^stopped after \w+ (\d+) of (\d+)$", said, flags=re.MULTILINE)
    assert len(told) == len(runs), said
    assert all(int(last) < int(most) for last, most in told)
    for run_dir in runs.values():
        assert [each.outcome for each in RunInfo.load(tmp_path / run_dir).attempts] == ["stopped"]
        assert list((tmp_path / run_dir / "tensorboard").glob("events*"))
