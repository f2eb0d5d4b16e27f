"""Our sink and upstream's callback inside a Flyte task, which flytekit runs on this machine."""

import json
import re

import pytest

from sinks._log_table import log_table
from tests.vendors.programs import find_python, needs, run_program

PYTHON = find_python("FLYTE", "flytekit")
PACKAGES = "all of the group `vendors` (and Python 3.12 or older, for flytekit)"


def here(test):
    """Skips a test where flytekit is not."""
    for mark in needs(PYTHON, "FLYTE", PACKAGES, timeout=420):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the program says of both trainers."""
    told = {"environment": {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, "timeout": 400}
    folder = tmp_path_factory.mktemp("flyte")
    said = run_program(PYTHON, "-m", "tests.vendors.flyte_task", folder=folder, **told)
    return json.loads(said.splitlines()[-1])


@here
def test_upstreams_callback_and_ours(found):
    """The checkpoint that a retry finds has the same kinds of files; the deck has every entry.

    Intended differences: upstream's callback needs pandas and flytekitplugins-deck-standard, and
    cannot even be made without; ours is a table of its own.
    """
    theirs, ours = found["transformers"], found["hotloop"]

    assert {"trainer_state.json", "training_args.bin"} <= theirs["files"].keys()
    assert "trainer_state.json" in ours["files"]
    assert any(name.endswith(".safetensors") for name in ours["files"])
    deck = ours["deck"]
    assert re.findall(r"<th>(\w+)</th>", deck)[:1] == ["loss"]
    names = set(re.findall(r"<th>([^<]+)</th>", deck))
    assert names == set(re.findall(r"<th>([^<]+)</th>", theirs["deck"]))
    assert deck.count("<tr>") == 1 + 5 + 2 + 1  # names, logs, evaluations, the summary


@here
def test_all_takes_it_inside_a_task(found):
    """Only there; elsewhere it says why not."""
    assert "flyte" in found["hotloop"]["all"]
    assert "not inside a Flyte task" in found["outside"]


def test_a_long_log():
    """Is thinned out evenly, from the first entry to the last; names are no HTML."""
    table = log_table({"<b>": float(n), "step": n} for n in range(10_001))

    assert "2000 of 10001 entries" in table
    assert table.count("<tr>") == 2001
    assert "<th>&lt;b&gt;</th>" in table
    assert "<td>10000</td></tr>" in table
    assert "<td>0</td><td>0</td>" in table
