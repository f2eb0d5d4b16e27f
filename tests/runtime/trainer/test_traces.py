"""What Transformers' trainer did, hook by hook and flag by flag: ours does the same.

The files in `golden` say which release they come from and how they are made. Where ours differs on
purpose the quirk is named here. `tests/vendors/test_trainer.py` compares much more, beside the real
one.
"""

import json
import re
from pathlib import Path

import pytest
import torch

import runtime
from tests.vendors.trainer_compare import differences
from tests.vendors.trainer_recorder import FLAGS
from tests.vendors.trainer_script import answer
from tests.vendors.trainer_traces import windows

GOLDEN = Path(__file__).with_name("golden")
ANOTHER_PROCESSOR = 1e-4
"""Relative tolerance of numbers: processors add in different orders, and optimizers amplify it."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The models are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(name):
    """The cases of a file by their names."""
    content = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return {case["name"]: case for case in content["cases"]}


TRACES = read("traces")
FACTS = read("facts")
WINDOWS = json.loads((GOLDEN / "windows.json").read_text(encoding="utf-8"))


def train_phases(case, folder):
    """What ours does in each phase of a case."""
    return [answer(runtime, {"folder": str(folder), **phase}) for phase in case["phases"]]


def compare(case, folder):
    """What ours does otherwise than the file says."""
    found = []
    for theirs, ours in zip(case["answers"], train_phases(case, folder), strict=True):
        same_parts = {key: value for key, value in ours.items() if key in theirs}
        found += differences(theirs, same_parts, tolerance=ANOTHER_PROCESSOR)
    return "\n".join(found)


def names(hooks):
    """Only which hooks were called."""
    return [each.partition("@")[0] for each in hooks]


@pytest.mark.parametrize("name", [name for name, case in TRACES.items() if not case["mended"]])
def test_trace(name, tmp_path):
    """The traces of the reference, with logs, rates, losses, samples and files."""
    assert compare(TRACES[name], tmp_path) == ""


@pytest.mark.parametrize("name", FACTS)
def test_fact(name, tmp_path):
    """Errors, restarts, several sets, what is forced at the end and what is not."""
    assert compare(FACTS[name], tmp_path) == ""


def test_max_steps_of_zero_trains_nothing(tmp_path):
    """Upstream takes one step then, which nobody can have meant."""
    (ours,) = train_phases(TRACES["E no steps"], tmp_path)

    assert names(ours["hooks"]) == ["init_end", "train_begin", "log", "train_end"]
    assert ours["state"]["global_step"] == 0
    assert ours["samples"] == []


def test_what_is_left_of_a_stream_is_stepped(tmp_path):
    """Upstream carries the gradients of an unfinished group into the next pass."""
    (ours,) = train_phases(TRACES["J a stream with a remainder"], tmp_path)

    steps = re.findall(r"step_begin((?: substep_end)*) pre_opt", " ".join(names(ours["hooks"])))
    assert [each.count("substep_end") for each in steps] == [2, 2, 1, 2, 2]
    assert ours["state"]["global_step"] == 5
    ends = [index for index, name in enumerate(names(ours["hooks"])) if name == "epoch_end"]
    assert [ours["hooks"][index].partition("/")[0] for index in ends] == [
        "epoch_end@3",
        "epoch_end@5",
    ]


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("hook", WINDOWS["windows"]["3"])
def test_flag_windows(accumulation, hook, tmp_path):
    """Each flag set once in each hook: kept, acted on, or wiped, as upstream does."""
    found = []
    for number, (steps, where, flag, case) in enumerate(windows()):
        if (steps, where) == (accumulation, hook):
            (phase,) = case.phases
            ours = answer(runtime, {"folder": str(tmp_path / str(number)), **phase})
            expected = WINDOWS["traces"][WINDOWS["windows"][str(steps)][where][flag]]
            found.append((flag, expected, " ".join(ours["hooks"])))
    assert [flag for flag, *_ in found] == ([*FLAGS] if found else [])
    assert not [each for each in found if each[1] != each[2]]
