"""The process that holds the store of all ranks is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bus import JournalReader, RunEnded, RunInfo
from tests.runtime.ranks.launching import environments

pytestmark = pytest.mark.slow
CHILD = Path(__file__).with_name("orphan_child.py")

AGENT = """
import sys, time
from torch.distributed import TCPStore

store = TCPStore("127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False)
print("ready", flush=True)
time.sleep(3600)
"""


def test_everybody_fails_and_says_why(tmp_path, eventually):
    """Every rank ends by itself, its journal and run.json say what was missing."""
    shared = [{**each, "TORCHELASTIC_USE_AGENT_STORE": "True"} for each in environments(2)]
    agent = subprocess.Popen(  # noqa: S603 - the program above
        [sys.executable, "-c", AGENT, shared[0]["MASTER_PORT"]], stdout=subprocess.PIPE, text=True
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == "ready\n"
    ranks = [
        subprocess.Popen(  # noqa: S603 - a program of ours
            [sys.executable, CHILD, tmp_path],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in shared
    ]
    try:
        eventually(lambda: len([*tmp_path.glob("*.going")]) == len(ranks), seconds=90)
        agent.send_signal(signal.SIGKILL)
        said = [each.communicate(timeout=90) for each in ranks]
    finally:
        for each in (*ranks, agent):
            each.kill()
            each.wait()
        agent.stdout.close()

    for rank, (_, err) in enumerate(said):
        assert f"rank {rank} cannot go on: the store that the ranks share has not" in err
    assert [each.returncode for each in ranks] == [1, 1]
    ends = [*JournalReader(tmp_path / "orphan").records(types=(RunEnded,))]
    assert [(each.rank, each.event.outcome) for each in ends] == [(0, "failed"), (1, "failed")]
    assert all("cannot go on: the store" in (each.event.error or "") for each in ends)
    assert RunInfo.load(tmp_path / "orphan").attempts[-1].outcome == "failed"
