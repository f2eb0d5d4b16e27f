"""The bridges under two processes: what one asks for, both do at the same step."""

import json

import pytest

from tests.servers import mlflow
from tests.vendors.programs import needs, run_program
from tests.vendors.trainer_process import find_python

PYTHON = find_python()
pytestmark = needs(PYTHON, "HF", "transformers, accelerate and tensorboard", timeout=400)

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def server():
    """What the first rank delivers to."""
    with mlflow.StandIn() as server:
        yield server


@pytest.fixture(scope="module")
def found(tmp_path_factory, server):
    """What each rank has of each library."""
    folder = tmp_path_factory.mktemp("ranks")
    run_program(
        *(PYTHON, *LAUNCH, "-m", "tests.vendors.bridges_ranks", str(folder)),
        folder=folder,
        environment={**QUIET, "MLFLOW_TRACKING_URI": server.url},
        timeout=380,
    )
    return lambda name: [
        json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)
    ]


LIBRARIES = pytest.mark.parametrize("library", ["transformers", "accelerate"])


@LIBRARIES
def test_both_stop_at_the_same_step(found, library):
    """The second rank alone has asked; both end as stopped, behind the same step."""
    first, second = found(library)
    assert 30 < first["steps"] == second["steps"] < 3000
    for each in (first, second):
        assert each["journal"][-1]["outcome"] == "stopped"
        assert "the second rank" in each["journal"][-1]["reason"]


@LIBRARIES
def test_both_save_at_the_same_step(found, library):
    """And before the stop."""
    first, second = found(library)
    assert first["saved"] == second["saved"]
    (step,) = first["saved"]
    assert 3 <= step < first["steps"]


@LIBRARIES
def test_the_first_rank_delivers_every_metric(found, server, library):
    """To a tracking server and to TensorBoard, once, with steps and values as they were logged."""
    first, _ = found(library)
    run = {
        "transformers": lambda: next(iter(server.runs.values())),
        "accelerate": lambda: list(server.runs.values())[1],
    }[library]()
    expected = [(step, pytest.approx(value)) for step, value in first["history"]]
    assert len(server.runs) == 2
    assert run.series("loss") == expected
    tag = "train/loss" if library == "transformers" else "loss"
    assert [tuple(each) for each in first["shown"][tag]] == expected


def test_what_accelerate_hands_over_is_kept(found):
    """Settings without secrets, nested numbers, texts and pictures."""
    first, second = found("accelerate")
    types = [each["type"] for each in first["journal"]]
    assert {"parameters_logged", "text_logged", "media_logged"} <= set(types)
    assert "media_logged" not in [each["type"] for each in second["journal"]]
    assert len(first["shown"]["parts/a"]) == first["steps"]
    assert first["states"] == [f"state-{first['saved'][0]}"]
