"""The same trainings under Transformers' own trainer and under ours, compared in everything."""

import shutil

import pytest

from tests.vendors.trainer_cases import MENDED
from tests.vendors.trainer_compare import differences, unequal
from tests.vendors.trainer_flow import FLOW
from tests.vendors.trainer_process import TrainerProcess, find_python
from tests.vendors.trainer_settings import SETTINGS

PYTHON = find_python()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(200),  # importing Transformers takes a busy machine long
    pytest.mark.skipif(
        PYTHON is None,
        reason="needs the transformers package: `make test-vendors`, or set HOTLOOP_HF_PYTHON to "
        "an interpreter with it and with this library's dependencies",
    ),
]

LIBRARIES = ("transformers", "hotloop")
CASES = (*SETTINGS, *FLOW)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One process for each library, at work at the same time."""
    folder = tmp_path_factory.mktemp("trainers")
    assert PYTHON is not None
    both = [TrainerProcess(PYTHON, library, folder) for library in LIBRARIES]
    yield both
    for process in both:
        process.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_ours_does_what_upstream_does(processes, tmp_path, case):
    """Hooks, flags, logs, rates, losses, samples, weights, files and what is returned are equal."""
    found = []
    for number, phase in enumerate(case.phases):
        for process in processes:
            process.ask({"folder": str(tmp_path / process.library), **phase})
        theirs, ours = [process.answer() for process in processes]
        found += [f"{number}: {each}" for each in differences(theirs, ours, ignore=case.ignore)]
    assert not found, "\n".join(["", *found[:20]])


@pytest.mark.parametrize(
    "case", [each for each in CASES if each.mended], ids=lambda case: case.name
)
def test_a_mended_quirk_is_still_one(processes, tmp_path, case):
    """What a case leaves out does differ; otherwise upstream has mended it and so can the case."""
    found = []
    for phase in case.phases:
        for process in processes:
            process.ask({"folder": str(tmp_path / process.library), **phase})
        theirs, ours = [process.answer() for process in processes]
        found += differences(theirs, ours)
    assert found, MENDED[case.mended]


INTERCHANGED = {
    "model": "dropout",
    "eval": ["map", 20],
    "arguments": {
        "num_train_epochs": 2,
        "logging_steps": 1,
        "save_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "lr_scheduler_type": "cosine",
        "learning_rate": 0.01,
        "warmup_steps": 2,
    },
}
GPT2 = {**INTERCHANGED, "model": "gpt2", "tokens": True}

# What a training that was resumed has in common with one that was not.
ENDING = ("history", "weights", "state")


@pytest.mark.parametrize("kind", [INTERCHANGED, GPT2], ids=["module", "gpt2"])
@pytest.mark.parametrize("saver", [0, 1], ids=LIBRARIES)
def test_a_checkpoint_of_one_resumes_under_the_other(processes, tmp_path, kind, saver):
    """Whoever saved in the middle of an epoch, the end is that of a training never broken off."""
    saving, resuming = processes[saver], processes[1 - saver]
    unbroken = saving.train({"folder": str(tmp_path / "unbroken"), **kind})
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "unbroken" / "out" / "checkpoint-6", moved / "out" / "checkpoint-6")

    resumed = resuming.train({"folder": str(moved), **kind, "resume": "checkpoint-6"})

    assert unbroken["error"] is None
    assert resumed["error"] is None
    assert resumed["samples"] == unbroken["samples"][6:]
    # The summary counts only what this call of train() did.
    kept = [{**each, "history": each["history"][:-1]} for each in (unbroken, resumed)]
    found = [text for part in ENDING for _, text in unequal(part, kept[0][part], kept[1][part])]
    assert not found, "\n".join(["", *found])
