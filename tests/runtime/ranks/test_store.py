"""The process that holds the store of all ranks is killed."""

import signal
import subprocess
from pathlib import Path

import pytest

from bus import JournalReader, MessageLogged, RunEnded, RunInfo
from tests.runtime.ranks.launching import environments
from tests.waiting import HANG

pytestmark = pytest.mark.slow
CHILD = Path(__file__).with_name("orphan_child.py")

AGENT = """
import sys, time
from torch.distributed import TCPStore

store = TCPStore("127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False)
print("ready", flush=True)
time.sleep(3600)
"""


def test_everybody_fails_and_says_why(interpreter, tmp_path, eventually):
    """Every rank ends by itself, its journal and run.json say what was missing."""
    shared = [{**each, "TORCHELASTIC_USE_AGENT_STORE": "True"} for each in environments(2)]
    agent = interpreter.start(["-c", AGENT, shared[0]["MASTER_PORT"]], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == "ready\n"
    ranks = []
    for rank, environment in enumerate(shared):
        with (tmp_path / f"said{rank}").open("w") as err:  # torch says more than a pipe holds
            program = [CHILD, tmp_path]
            ranks.append(interpreter.start(program, env=environment, stderr=err.fileno()))
    try:
        eventually(lambda: len([*tmp_path.glob("*.going")]) == len(ranks), seconds=90)
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        for each in ranks:
            each.wait(3 * HANG)
    finally:
        for each in (*ranks, agent):
            each.close()

    for rank in range(2):
        said = (tmp_path / f"said{rank}").read_text()
        assert f"rank {rank} cannot go on: the store that the ranks share has not" in said
    assert [each.returncode for each in ranks] == [1, 1]
    journal = JournalReader(tmp_path / "orphan")
    ends = [*journal.records(types=(RunEnded,))]
    reason = "the store that the ranks share does not answer; torchrun's agent holds it"
    assert [(each.rank, each.event.outcome) for each in ends] == [(0, "failed"), (1, "failed")]
    assert [each.event.error for each in ends] == [reason] * 2
    own = [each.event.text for each in journal.records(types=(MessageLogged,))]
    assert all(any(f"rank {rank} cannot go on" in text for text in own) for rank in range(2))
    last = RunInfo.load(tmp_path / "orphan").attempts[-1]
    assert (last.outcome, last.error) == ("failed", reason)
