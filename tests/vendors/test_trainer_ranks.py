"""The same training under Transformers' own trainer and under ours, in two processes with DDP."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.vendors.trainer_process import find_python

PYTHON = find_python()
ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # importing Transformers takes a busy machine long
    pytest.mark.skipif(
        PYTHON is None,
        reason="needs the transformers package: `make test-vendors`, or set HOTLOOP_HF_PYTHON to "
        "an interpreter with it and with this library's dependencies",
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each process has of each training, by its name."""
    assert PYTHON is not None
    folder = tmp_path_factory.mktemp("ranks")
    launch = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(  # noqa: S603 - our own script
        [*launch, str(Path(__file__).with_name("trainer_ranks.py")), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return lambda name: [
        json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)
    ]


@pytest.mark.parametrize("kind", ["seen", "weights", "logs", "names", "orders", "predictions"])
def test_each_rank_does_what_upstreams_does(results, kind):
    """Batches, weights, logged numbers and their names, metrics and predictions are equal."""
    for theirs, ours in zip(results("transformers"), results("hotloop"), strict=True):
        assert ours[kind] == theirs[kind]
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)


@pytest.mark.parametrize("library", ["transformers", "hotloop"])
def test_each_goes_on_from_the_others_checkpoint(results, library):
    """The end has the bits of the training that was not broken off."""
    unbroken, resumed = results("transformers"), results(f"{library}-resumed")
    for whole, rest in zip(unbroken, resumed, strict=True):
        assert rest["weights"] == whole["weights"]
        assert rest["seen"] == whole["seen"][-len(rest["seen"]) :]
