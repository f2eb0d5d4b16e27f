"""Neptune's own client and our sink at one strict stand-in: the same state, read back alike."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bus import ArtifactReady, MetricsLogged, SummaryLogged, TextLogged, sync_run
from sinks.neptune import NeptuneSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.neptune import StandIn
from tests.vendors.neptune_client import PARAMETERS, loss

PROGRAM = Path(__file__).with_name("neptune_client.py")


def find_python() -> str | None:
    """An interpreter that has the `neptune` package."""
    given = os.environ.get("HOTLOOP_NEPTUNE_PYTHON")
    if given:
        return given
    return sys.executable if importlib.util.find_spec("neptune") else None


PYTHON = find_python()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # the client takes seconds to be imported, more on a busy machine
    pytest.mark.skipif(
        PYTHON is None,
        reason="needs the neptune package: `make test-vendors`, or set HOTLOOP_NEPTUNE_PYTHON to "
        "an interpreter with it",
    ),
]


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def ask(server, folder, *command):
    """Run the client; what it tells."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NEPTUNE_")}
    ours = {
        "NEPTUNE_API_TOKEN": server.token,
        "NEPTUNE_DATA_DIRECTORY": str(folder / ".neptune"),
        "OAUTHLIB_INSECURE_TRANSPORT": "1",  # the server speaks no TLS
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(  # noqa: S603 - our own program
        [PYTHON, str(PROGRAM), *command],
        cwd=folder,
        env={**kept, **ours},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answer.json").read_text())


@pytest.fixture
def folder(tmp_path):
    """Files: one of several parts, and a folder of two."""
    folder = tmp_path / "files"
    (folder / "two").mkdir(parents=True)
    (folder / "big.ckpt").write_bytes(bytes(range(256)) * (6 << 12))
    (folder / "two" / "a.txt").write_text("a")
    (folder / "two" / "b.txt").write_text("b")
    return folder


def ours(server, tmp_path, folder):
    """The same run, through the sink."""
    metrics = [
        MetricsLogged(step=step, metrics={"loss": loss(step), "eval_loss": 2.0 * step})
        for step in range(25)
    ]
    files = [
        ArtifactReady(path=str(path), kind="file", name=path.name)
        for path in sorted(folder.iterdir())
    ]
    run_dir = write_attempt(
        tmp_path / "run",
        [
            *metrics,
            TextLogged(step=3, key="sample", text="hello"),
            SummaryLogged(values={"best": 0.04}),
            *files,
        ],
        config=PARAMETERS,
    )
    sink = NeptuneSink(
        api_token=server.token,
        project="team/demo",
        name="demo",
        description="d",
        tags=["a", "b"],
        group_tags=["sweep"],
        log_artifacts=True,
    )
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=60)
    assert account.complete
    assert account.dead == 0


OURS_ALONE = {
    "finetuning/train/loss_nonfinite",  # a NaN, which the client drops
    "hotloop/attempt",
    "hotloop/git_commit",
    "hotloop/outcome",
    "hotloop/run_id",
    "sys/hostname",  # found out by the client too, were it not told to be quiet
}
PROGRAM_NAME = "source_code/entrypoint"


def test_the_state_is_the_same(server, tmp_path, folder):
    """Series, fields, tags, texts and files, but for what is listed above."""
    ask(server, tmp_path, "write", str(folder))
    ours(server, tmp_path, folder)
    theirs, mine = (run.state() for run in server.runs.values())

    assert theirs.keys() - mine.keys() == set()
    assert mine.keys() - theirs.keys() == OURS_ALONE
    changed = {path for path in theirs if theirs[path] != mine[path]}
    file, two = "finetuning/artifacts/big.ckpt", "finetuning/artifacts/two"
    assert changed == {file, two, PROGRAM_NAME}
    # The client names files from the working folder on; here it is from what was announced.
    assert mine[file] == {"big.ckpt": theirs[file]["files/big.ckpt"]}
    assert mine[two] == {f"two/{place}": content for place, content in theirs[two].items()}


def test_the_clients_reader_shows_our_run_as_its_own(server, tmp_path, folder):
    """Each series, field and set of names, read back by the client from both runs."""
    ask(server, tmp_path, "write", str(folder))
    ours(server, tmp_path, folder)
    theirs, mine = (ask(server, tmp_path, "read", name) for name in ("DEM-1", "DEM-2"))

    assert mine["finetuning/train/loss"] == [[n, loss(n)] for n in range(25) if n != 7]
    assert {path for path in theirs if theirs[path] != mine[path]} == {"sys/id", PROGRAM_NAME}
    assert mine.keys() - theirs.keys() == OURS_ALONE
