"""A SummaryWriter that a run and its program drive at once, read by TensorBoard."""

import json

import pytest

from tests.sinks.local_sinks import read_tensorboard
from tests.vendors.programs import find_python, needs, run_program

PYTHON = find_python("TENSORBOARD", "tensorboard")

pytestmark = needs(PYTHON, "TENSORBOARD", "tensorboard and torch", timeout=240)

PROGRAM = """
import torch
from torch.utils.tensorboard import SummaryWriter

import runtime
from bus import HistogramLogged, SystemMetricsLogged, TextLogged
from sinks.tensorboard import SummaryWriterSink

writer = SummaryWriter("board")
sink = SummaryWriterSink(writer)
with runtime.Run(name="own", config={"lr": 0.5}, sinks=[sink]) as run:
    for step in range(1, 21):
        run.log({"loss": 1 / step, "nan": float("nan")}, step=step)
        if step == 10:
            writer.add_image("picture", torch.zeros(3, 4, 5), step)
    run.publish(TextLogged(step=20, key="sample", text="words"))
    run.publish(HistogramLogged(step=20, key="weights", counts=[1, 0, 2], edges=[-1, 0, 0.5, 2]))
    run.publish(HistogramLogged(step=20, key="wrong", counts=[1.0], edges=[1.0]))
    run.publish(SystemMetricsLogged(metrics={"cpu": 0.5}))
(account,) = run.statistics().sinks.values()
print(account.complete, account.dead)
writer.add_scalar("after", 1.0, 21)  # it is still the program's
writer.close()
"""


def test_curves_and_the_programs_own_pictures(tmp_path):
    """In one folder; what cannot be shown is a dead letter; the writer is not closed."""
    said = run_program(PYTHON, "-c", PROGRAM, folder=tmp_path, environment={})
    assert said.splitlines()[-1] == "True 1"
    found = read_tensorboard(tmp_path / "board")

    loss = found["scalars"].pop("loss")
    assert [point[0] for point in loss] == list(range(1, 21))
    assert [point[1] for point in loss] == pytest.approx([1 / n for n in range(1, 21)])
    steps = {tag: [point[0] for point in points] for tag, points in found["scalars"].items()}
    assert steps == {"nan": list(range(1, 21)), "system/cpu": [20], "after": [21]}
    assert [image[:3] for image in found["images"]["picture"]] == [[10, 5, 4]]
    texts = found["tensors"]
    assert texts["sample/text_summary"][0][2] == ["words"]
    assert json.loads(texts["args/text_summary"][0][2][0]) == {"lr": 0.5}
