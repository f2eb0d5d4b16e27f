"""What Trackio itself finds of a run: in its database, and on its server."""

import json
import math
import re
import secrets
import subprocess

import httpx
import pytest

from bus import sync_run
from sinks.trackio import TrackioSink
from tests.servers.journals import QUICK
from tests.vendors.local_tools import live_and_die
from tests.vendors.programs import find_python, needs, run_program
from tests.waiting import HANG, eventually

PYTHON = find_python("TRACKIO", "trackio")

pytestmark = needs(PYTHON, "TRACKIO", "trackio", timeout=600)


def local(folder):
    """A database of the test's own, and no network."""
    return {"TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}


def steps(logs, key):
    return [each["step"] for each in logs if key in each]


def check(found):
    """What `live_and_die` leaves: each row once, also those that were sent twice."""
    again = [16, 17, 18]
    assert sorted(steps(found["logs"], "loss")) == sorted([*range(1, 21), *again])
    assert steps(found["logs"], "again") == again
    assert all(each["loss"] == 1 / each["step"] for each in found["logs"] if "loss" in each)
    odd = next(each for each in found["logs"] if "inf" in each)
    assert odd["step"] == 10
    assert odd.keys() == {
        *("nan", "inf", "../../out", "a\tb\nc", "loss/inner", "step", "timestamp")
    }
    assert [each["gpu0/watts"] for each in found["system"]] == [250.0]
    assert [(each["title"], each["level"], each["step"]) for each in found["alerts"]] == [
        ("late", "warn", 20)
    ]
    assert found["config"]["opt"] == {"name": "adam", "betas": [0.9, 0.99]}
    assert found["config"]["late"] == 1
    assert found["runs"] == ["run"]


def test_its_database(tmp_path):
    """Metrics with their steps and times, settings, the machine's numbers, alerts."""
    told = {"folder": tmp_path, "environment": local(tmp_path)}
    found = json.loads(run_program(PYTHON, "-m", "tests.vendors.local_tools", "trackio", **told))

    check(found)
    first, second = found["logs"][:2]
    assert (first["timestamp"], second["timestamp"]) == (
        "2026-09-21T14:13:21+00:00",
        "2026-09-21T14:13:22+00:00",
    )
    odd = next(each for each in found["logs"] if "inf" in each)
    assert math.isnan(odd["nan"])
    assert odd["inf"] == math.inf


SERVE = """
import trackio
trackio.show(host="127.0.0.1", block_thread=True, open_browser=False)
"""


@pytest.fixture
def server(tmp_path):
    """Its own server; the address as it prints it, with the token."""
    log = tmp_path / "server.log"
    token = secrets.token_urlsafe(8)
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - its own program
            [PYTHON, "-c", SERVE],
            env={
                **local(tmp_path),
                "TRACKIO_WRITE_TOKEN": token,
                "HOME": str(tmp_path),
                "PYTHONUNBUFFERED": "1",
            },
            cwd=tmp_path,
            stdout=file,
            stderr=file,
        )
    try:
        address = re.compile(rf"http://127\.0\.0\.1:\d+/?\?write_token={token}")
        eventually(lambda: address.search(log.read_text()), HANG * 3)
        yield address.search(log.read_text())[0]
    finally:
        process.kill()
        process.wait()


def ask(address, call, **arguments):
    url = f"{address.partition('?')[0].rstrip('/')}/api/{call}"
    return httpx.post(url, json=arguments, timeout=HANG).raise_for_status().json()["data"]


def test_its_server(server, tmp_path, monkeypatch):
    """The same over HTTP, without its package; a wrong token is told of, and loses nothing."""
    monkeypatch.chdir(tmp_path)
    wrong = TrackioSink(server_url=server.partition("?")[0], write_token="wrong")  # noqa: S106 - of no server
    run_dir = live_and_die(lambda: TrackioSink(server_url=server))
    other = run_dir.rename(tmp_path / "other")
    (other / "cursors" / "trackio.json").unlink()
    (account,) = sync_run(other, [wrong], timeout=1.0, pace=QUICK)

    assert not account.complete
    assert "TRACKIO_WRITE_TOKEN" in account.reason
    names = {"project": "tests", "run": "run"}
    check(
        {
            "logs": ask(server, "get_logs", **names),
            "system": ask(server, "get_system_logs", **names),
            "alerts": ask(server, "get_alerts", project="tests"),
            "config": ask(server, "get_run_summary", **names)["config"],
            "runs": [each["name"] for each in ask(server, "get_runs_for_project", project="tests")],
        }
    )


DAMAGED = """
import json
from pathlib import Path
from bus import sync_run
from sinks.trackio import TrackioSink
from tests.servers.journals import QUICK
from tests.sinks.local_sinks import metrics, write_run

run_dir = write_run(Path("one"), metrics([1]))
database = Path("trackio", "tests.db")
database.parent.mkdir()
database.write_text("no database" * 1000)
(before,) = sync_run(run_dir, [TrackioSink()], timeout=5, pace=QUICK)
database.unlink()
(after,) = sync_run(run_dir, [TrackioSink()], pace=QUICK)
print(json.dumps([before.reason, before.pending, after.complete]))
"""


def test_a_damaged_database(tmp_path):
    """Is said with what to do, and nothing is lost."""
    told = {"folder": tmp_path, "environment": local(tmp_path)}
    said = run_program(PYTHON, "-c", DAMAGED, **told)
    reason, pending, complete = json.loads(said.splitlines()[-1])

    assert "move it away" in reason
    assert str(tmp_path / "trackio") in reason
    assert pending
    assert complete
