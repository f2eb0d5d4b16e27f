"""A server that others have written for W&B's own client takes what our sink sends.

OpenWandb (CC-BY-NC-4.0, so it is used here and not shipped) has a strict GraphQL schema, and a
database of its own that is read back. It knows no alerts, takes no notice of offsets, and calls
every run finished; so those are left to the stand-in.
"""

import base64
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from bus import ArtifactReady, ConsoleLineLogged, MediaLogged, MetricsLogged, sync_run
from sinks.wandb import WandbSink
from tests.nobody import clear_environment
from tests.servers.journals import QUICK, write_attempt
from tests.servers.wandb_states import png
from tests.waiting import eventually

PYTHON = os.environ.get("HOTLOOP_OPENWANDB_PYTHON")
KEY = "local" + "0" * 40
"""The key of its first user, as it is installed."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PYTHON is None,
        reason="HOTLOOP_OPENWANDB_PYTHON names no interpreter with the openwandb package",
    ),
]


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Where it listens."""
    clear_environment(monkeypatch, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - our own arguments
            [PYTHON, "-m", "openwandb", "serve", *options], stdout=log, stderr=log, cwd=tmp_path
        ) as process,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(address, process), 60)
            yield address
        finally:
            process.kill()


def _answers(address, process):
    assert process.poll() is None, "it did not start"
    try:
        urllib.request.urlopen(address, timeout=2).close()  # noqa: S310 - ours
    except urllib.error.HTTPError as answer:
        answer.close()
    except OSError:
        return False
    return True


def read(url, path):
    """What its own interface says."""
    pair = base64.b64encode(f"api:{KEY}".encode()).decode()
    headers = {"authorization": f"Basic {pair}"}
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers)) as answer:  # noqa: S310 - ours
        return json.load(answer)


def test_a_run_is_read_back(url, tmp_path):
    """Every request fits its schema; rows, configuration and summary are in its database."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w")
    (tmp_path / "a.png").write_bytes(png(3, 2))
    picture = str(tmp_path / "a.png")
    events = [
        *(MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(10)),
        MediaLogged(step=9, key="img", path=picture, media_type="image/png"),
        ConsoleLineLogged(text="hello"),
        ArtifactReady(path=str(tmp_path / "model"), kind="model", name="m", aliases=("best",)),
    ]
    run_dir = write_attempt(tmp_path / "run", events, config={"lr": 0.1})
    sink = WandbSink(base_url=url, api_key=KEY, run_id="abc", tags=("a",), notes="a note")
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=60)

    assert (account.complete, account.dead) == (True, 0)
    run = read(url, "/api/v2/runs/abc")["run"]
    assert (run["state"], run["tags"], run["notes"]) == ("finished", ["a"], "a note")
    assert run["config"]["lr"] == {"value": 0.1}
    assert run["summary"]["loss"] == 9.0
    points = read(url, "/api/v2/runs/abc/metrics")["metrics_by_key"]["loss"]
    assert [(each["step"], each["value"]) for each in points] == [(n, float(n)) for n in range(10)]
