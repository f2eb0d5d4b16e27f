"""What SwanLab's own library makes of a run, and what it is kept from doing to the process."""

import json
import math
import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus import list_cursors
from sinks.testing import Reply, ScriptedServer
from tests.nobody import settings
from tests.vendors.programs import ROOT, find_python, needs, run_program
from tests.waiting import HANG, eventually

PYTHON = find_python("SWANLAB", "swanlab")

pytestmark = needs(PYTHON, "SWANLAB", "swanlab[dashboard]", timeout=600)

SUCCESS, CRASHED = 1, 2
KEY = "key-0123456789"

READ = """
import json
from pathlib import Path
from tests.vendors.local_tools import read_swanboard, read_swanlab
folder = Path("swanlog")
shown = read_swanboard(folder) if (folder / "runs.swanlab").exists() else []
print(json.dumps([read_swanlab(folder), shown]))
"""


def read(folder, script=READ):
    printed = run_program(PYTHON, "-c", script, folder=folder, environment={})
    return json.loads(printed.splitlines()[-1])


def steps(experiment, key="loss"):
    return [step for step, _ in experiment["points"].get(key, [])]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """The experiments that `live_and_die` leaves, as SwanLab reads them and as it shows them."""
    folder = tmp_path_factory.mktemp("lived")
    environment = {"SWANLAB_MODE": "local", "SWANLAB_PROJECT": "mine"}
    tool = ("-m", "tests.vendors.local_tools", "swanlab")
    run_program(PYTHON, *tool, folder=folder, environment=environment)
    return read(folder)


def test_a_run_that_dies_and_goes_on(lived):
    """Each process writes an experiment of its own: the same run by id, which `sync` puts together.

    Together they have every point with its step; what was delivered twice, and what was trained
    again, stands in two of them.
    """
    stored, _ = lived
    first, second, repeated, last = stored

    assert len({each["id"] for each in stored}) == 1
    assert {each["project"] for each in stored} == {"mine"}
    assert [each["state"] for each in stored] == [CRASHED, CRASHED, CRASHED, SUCCESS]
    assert first["points"]["loss"] == [[n, 1 / n] for n in range(1, 11)]
    assert steps(second) == steps(repeated) == [*range(11, 21)]
    assert steps(last) == steps(last, "again") == [16, 17, 18]
    odd = {"nan", "inf", "out", "a_b_c", "loss/inner", "eval/loss"}
    assert first["points"].keys() == {"loss", *odd}
    assert {step for key in odd for step in steps(first, key)} == {10}
    assert math.isnan(first["points"]["nan"][0][1])
    assert first["points"]["inf"] == [[10, math.inf]]
    assert second["points"]["system/gpu0/watts"] == [[0, 250.0]]
    assert first["config"]["opt"] == {"name": "adam", "betas": [0.9, 0.99]}
    assert (last["config"]["lr"], last["config"]["late"]) == (3e-4, 1)


def test_what_its_dashboard_shows(lived):
    """The same points and outcomes."""
    stored, shown = lived

    assert [each["dir"] for each in shown] == [each["dir"] for each in stored]
    assert [each["status"] for each in shown] == [-1, -1, -1, 1]
    for ours, theirs in zip(stored, shown, strict=True):
        assert json.dumps(theirs["points"], sort_keys=True) == json.dumps(
            ours["points"], sort_keys=True
        )


APART = """
import atexit, json, os, signal, sys, threading
import runtime
from bus import register_sink
from tests.waiting import HANG, eventually

register_sink("swanlab", "sinks.swanlab:SwanLabSink")

def hook(*_): ...
sys.excepthook = hook
signal.signal(signal.SIGTERM, lambda *_: None)
before, seen, over = dict(os.environ), set(), threading.Event()

def here():
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    looked = (sys.excepthook, sys.stdout.write, sys.stderr.write, atexit.register, *handlers)
    return {str(getattr(each, "__module__", None)) for each in looked}

def look():
    while not over.is_set():
        seen.update(here())
        over.wait(0.0001)

looker = threading.Thread(target=look)
looker.start()
with runtime.Run(name="apart", sinks=["swanlab"], close_timeout=150) as run:
    run.log({"loss": 0.5}, step=1)
    eventually(lambda: run.statistics().sinks["swanlab"].delivered, HANG * 3)
    import swanlab
    active = swanlab.has_run()
over.set()
looker.join()
(account,) = run.statistics().sinks.values()

from swanlab.sdk.internal.run import Run

exits = []
atexit.register(lambda: print(json.dumps(exits)))
Run._handle_atexit = lambda self: exits.append("called")
own = swanlab.init(mode="offline", project="own", settings=swanlab.Settings(interactive=False))
taken = sys.excepthook is not hook
swanlab.log({"mine": 1.0})
swanlab.finish()
print(json.dumps({
    "complete": account.complete,
    "active": active,
    "swanlab": sorted(each for each in seen if "swanlab" in each),
    "hook": sys.excepthook is hook,
    "environment": dict(os.environ) == before,
    "taken": taken,
}))
"""


def test_the_process_stays_the_programs_own(tmp_path):
    """Nothing that the library takes elsewhere is its own at any moment, nor does it print.

    Its hook for exceptions, streams, signal handlers, environment and exit are the program's, and
    so is the library itself: a run of the program's own works as ever afterwards.
    """
    told = {"folder": tmp_path, "environment": {"SWANLAB_MODE": "local"}}
    printed = run_program(PYTHON, "-c", APART, **told).splitlines()
    found = json.loads(next(line for line in printed if line.startswith("{")))

    assert found == {
        "complete": True,
        "active": False,
        "swanlab": [],
        "hook": True,
        "environment": True,
        "taken": True,
    }
    assert printed[-1] == "[]"
    # What the library prints of the program's own run is all that it prints.
    assert sum("Tracking run" in line for line in printed) == 1
    assert {each["project"] for each in read(tmp_path)[0]} == {"hotloop", "own"}


KILLED = """
import itertools, sys, time
import runtime
from bus import register_sink

register_sink("swanlab", "sinks.swanlab:SwanLabSink")
run = runtime.Run(name="killed", sinks=["swanlab"])
for step in itertools.count():
    run.log({"loss": float(step)}, step=step)
    time.sleep(0.001)
"""

DELIVER = """
import json
from pathlib import Path
from bus import JournalReader, MetricsLogged, sync_run
from sinks.swanlab import SwanLabSink

run_dir = Path("runs/killed")
(account,) = sync_run(run_dir, [SwanLabSink()])
journal = JournalReader(run_dir).records(types=(MetricsLogged,))
print(json.dumps([account.complete, sum(1 for _ in journal)]))
"""


def test_a_killed_training(tmp_path):
    """What was acknowledged when SIGKILL came is in SwanLab's file; a sync delivers the rest."""
    told = {"folder": tmp_path, "environment": {"SWANLAB_MODE": "offline"}}
    run_dir = tmp_path / "runs" / "killed"

    def acknowledged():
        cursor = list_cursors(run_dir).get("swanlab") if run_dir.exists() else None
        return -1 if cursor is None else cursor.state.get("step", -1)

    with started(KILLED, **told) as process:
        eventually(lambda: acknowledged() > 200, HANG * 3)
        process.kill()
        process.wait()
    last = acknowledged()
    (killed,), _ = read(tmp_path)
    complete, logged = json.loads(run_program(PYTHON, "-c", DELIVER, **told))
    (_, later), _ = read(tmp_path)

    assert complete
    assert killed["state"] is None
    assert steps(killed)[: last + 1] == [*range(last + 1)]
    assert {*steps(killed), *steps(later)} == {*range(logged)}
    assert steps(later)[0] <= len(steps(killed))
    assert (later["id"], later["state"]) == (killed["id"], CRASHED)


SERVED = """
import json, logging, sys, threading
import runtime
from bus import register_sink

register_sink("swanlab", "sinks.swanlab:SwanLabSink")
logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
with runtime.Run(name="served", sinks=["swanlab"], close_timeout=float(sys.argv[1])) as run:
    run.log({"loss": 0.5}, step=1)
(account,) = run.statistics().sinks.values()
busy = [each for each in threading.enumerate() if each.name == "hotloop-sink-swanlab"]
print(json.dumps([account.status, account.reason, account.pending, len(busy)]))
"""


def served(folder, address, close_timeout):
    """How the sink's account ends with a server that serves nobody; no secret has been told."""
    environment = {"SWANLAB_API_HOST": address, "SWANLAB_API_KEY": KEY}
    program = (PYTHON, "-c", SERVED, str(close_timeout))
    printed = run_program(*program, folder=folder, environment=environment)
    files = [each for each in Path(folder).rglob("*") if each.is_file()]
    assert KEY not in printed
    assert not [each for each in files if KEY.encode() in each.read_bytes()]
    return printed, json.loads(printed.splitlines()[-1])


def test_a_server_that_refuses_the_key(tmp_path):
    """The sink is suspended, and says which variable to set."""
    with ScriptedServer(lambda _: Reply(401, {"code": "Wrong", "message": "no"})) as server:
        _, (status, reason, pending, _) = served(tmp_path, server.url, 15)

    assert status == "suspended"
    assert "set SWANLAB_API_KEY" in reason
    assert pending > 0


def test_a_server_that_is_silent(tmp_path):
    """Neither the run's end nor the program's exit waits for the library, which goes on trying."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        printed, (_, _, pending, busy) = served(tmp_path, f"http://127.0.0.1:{port}", 5)

    assert pending > 0
    assert busy
    assert "hotloop sync" in printed
    assert "Traceback" not in printed


@contextmanager
def started(program, folder, environment):
    """A program that is killed at the end, if it has not been before."""
    kept = {name: os.environ[name] for name in os.environ.keys() - settings()}
    ours = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(  # noqa: S603 - our own program
        [PYTHON, "-c", program], cwd=folder, env={**kept, **ours, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
