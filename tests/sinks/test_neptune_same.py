"""The same calls through our sink leave a server in the state in which Neptune's client leaves it.

For each recorded scenario: the recorded requests go to one stand-in, and what the recording's
script logged goes through the sink to another. Every difference is intended and listed here.
"""

import math
from dataclasses import dataclass, field

import pytest

from bus import ArtifactReady, MetricsLogged, TextLogged, sync_run
from sinks.neptune import NeptuneSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.neptune import Refused, StandIn
from tests.servers.neptune_replay import Replay, recorded

pytestmark = pytest.mark.usefixtures("environment")

CLIENT = "neptune_1.14.0_"
TRAIN, EVAL = "finetuning/train/", "finetuning/eval/"
PARAMETERS = "finetuning/trainer_parameters/"
NAN_STEP = 7
"""Where the script logged a loss that is NaN, which Neptune's client leaves out."""

OURS = {
    "hotloop/attempt": "which attempt at the run it is",
    "hotloop/git_commit": "where the program comes from",
    "hotloop/outcome": "how the run ended, where Neptune knows only failed or not",
    "hotloop/run_id": "our name for it",
    "sys/hostname": "the recordings were made without what the client finds out by itself",
}
CHANGED = {"source_code/entrypoint": "the program's name"}
NAN = {f"{TRAIN}loss_nonfinite": "a NaN is dropped by the client, and a text here"}


@dataclass
class Scenario:
    """What is intended to be different, by path and with its reason.

    Attributes:
        ours: There with us alone.
        theirs: There with the client alone; a path that ends with a slash stands for all below.
        changed: There with both, with another value.
        settings: Of the sink.
    """

    ours: dict = field(default_factory=dict)
    theirs: dict = field(default_factory=dict)
    changed: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)

    def check(self, theirs, ours):
        alone = theirs.keys() - ours.keys()
        listed = tuple(self.theirs)
        assert {path for path in alone if not path.startswith(listed)} == set()
        assert all(any(path.startswith(each) for path in alone) for each in listed)
        assert ours.keys() - theirs.keys() == OURS.keys() | self.ours.keys()
        both = theirs.keys() & ours.keys()
        differ = {path for path in both if ours[path] != theirs[path]}
        assert differ == CHANGED.keys() | self.changed.keys()


def operations(name):
    """What a recording's client wrote, in order."""
    for exchange in recorded(name):
        if exchange["request"]["path"].endswith("attributes/operations"):
            yield from exchange["request"]["body"]["json"]


def logged(name, nan=False):
    """The metrics that the script of a recording logged."""
    steps = {}
    for operation in operations(name):
        path = operation["path"]
        for entry in operation.get("logFloats", {}).get("entries", []):
            key = path.removeprefix(TRAIN).replace(EVAL, "eval_")
            value = math.nan if isinstance(entry["value"], str) else entry["value"]
            found = steps.setdefault(entry["step"], (entry["timestampMilliseconds"], {}))
            found[1].setdefault(key, value)
    if nan:
        steps[NAN_STEP][1]["loss"] = math.nan
    return [
        MetricsLogged(step=step, time=time / 1000, metrics=metrics)
        for step, (time, metrics) in sorted(steps.items())
    ]


def parameters(name):
    """The settings that the script of a recording logged, as it had them."""
    found = {}
    for operation in operations(name):
        if operation["path"].startswith(PARAMETERS):
            *outer, last = operation["path"].removeprefix(PARAMETERS).split("/")
            inner = found
            for each in outer:
                inner = inner.setdefault(each, {})
            (body,) = [value for key, value in operation.items() if key != "path"]
            inner[last] = None if body["value"] == "None" else body["value"]
    return found


def replayed(*names, minfx=False):
    """The state after the recorded requests."""
    with StandIn(minfx=minfx) as server:
        replay = Replay(server)
        for name in names:
            assert replay.whole(name) == []
        return server.run.state(), server.fields


def deliver(run_dir, server, **settings):
    sink = NeptuneSink(
        api_token=server.token, project="team/demo", **{"name": "Untitled", **settings}
    )
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
    return account


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


FULL = Scenario(
    ours={
        "finetuning/artifacts/big.ckpt": "files are below artifacts, by their name",
        "finetuning/artifacts/set": "as above",
        "finetuning/artifacts/small.bin": "as above",
        "finetuning/texts/log": "texts are below texts",
    },
    theirs={
        "finetuning/big": "below artifacts with us",
        "finetuning/set": "as above",
        "finetuning/small": "as above",
        "finetuning/log": "below texts with us",
        "when": "no event has a date as its value",
    },
    settings={
        "name": "demo-run",
        "description": "d",
        "tags": ["a", "b", "c"],
        "log_artifacts": True,
    },
)


@pytest.mark.parametrize("minfx", [False, True])
def test_a_whole_run(tmp_path, minfx):
    """25 steps with a NaN, nested parameters, tags, a text, files in one piece and in parts."""
    name = "minfx_0.7.4_full" if minfx else f"{CLIENT}full"
    theirs, _ = replayed(name, minfx=minfx)
    folder = tmp_path / "set"
    folder.mkdir()
    small = next(
        bytes(each["request"]["body"]["bytes"]["len"])
        for each in recorded(name)
        if each["request"]["path"].endswith("file/upload")
    )
    for path in (tmp_path / "big.ckpt", folder / "big.ckpt"):
        path.write_bytes(bytes(6 << 20))
    for path in (tmp_path / "small.bin", folder / "small.bin"):
        path.write_bytes(small)
    files = [
        ArtifactReady(path=str(tmp_path / each), kind="file", name=each)
        for each in ("big.ckpt", "set", "small.bin")
    ]
    text = TextLogged(step=0, key="log", text="hello")
    run_dir = write_attempt(
        tmp_path / "run",
        [*logged(name, nan=True), text, *files],
        config=parameters(name),
    )
    with StandIn(minfx=minfx) as server:
        settings = {**FULL.settings, "dialect": "minfx" if minfx else "neptune"}
        assert deliver(run_dir, server, **settings).complete
        ours = server.run.state()

    scenario = Scenario(FULL.ours | ({} if minfx else NAN), dict(FULL.theirs), {})
    if minfx:
        scenario.theirs["inf"] = "a value of the script's own, outside of what it trains"
    scenario.check(theirs, ours)
    assert ours["finetuning/texts/log"] == theirs["finetuning/log"]
    artifacts = "finetuning/artifacts/"
    assert ours[f"{artifacts}big.ckpt"] == {"big.ckpt": theirs["finetuning/big"]}
    assert ours[f"{artifacts}small.bin"] == {"small.bin": theirs["finetuning/small"]}
    assert ours[f"{artifacts}set"] == {
        f"set/{place}": content for place, content in theirs["finetuning/set"].items()
    }


def test_a_resumed_run(server, tmp_path):
    """Steps 8 and 9 again: the server refuses them to the client, and ours does not send them."""
    names = f"{CLIENT}first_part", f"{CLIENT}resume"
    theirs, _ = replayed(*names)
    run_dir = write_attempt(
        tmp_path / "run",
        logged(names[0], nan=True),
        config=parameters(names[0]),
        outcome=None,
    )
    deliver(run_dir, server)
    write_attempt(run_dir, logged(names[1]), attempt=2, from_step=7)
    assert deliver(run_dir, server).complete

    Scenario(ours=NAN).check(theirs, server.run.state())


def test_two_processes_write_to_one_run(server, tmp_path):
    """The same custom id, one after the other."""
    names = f"{CLIENT}custom_id_1", f"{CLIENT}custom_id_2"
    theirs, _ = replayed(*names)
    for name in names:
        run_dir = write_attempt(tmp_path / name, logged(name))
        assert deliver(run_dir, server, custom_run_id="shared").complete

    assert len(server.runs) == 1
    Scenario().check(theirs, server.run.state())


def test_a_crash(server, tmp_path):
    """SIGKILL after 25 steps: the client loses those it had not flushed, and says nothing of it."""
    names = f"{CLIENT}crash", f"{CLIENT}crash_then_sync"
    theirs, _ = replayed(*names)
    script = logged(f"{CLIENT}full", nan=True)
    run_dir = write_attempt(tmp_path / "run", script, config=parameters(names[1]), outcome=None)
    assert deliver(run_dir, server).complete
    ours = server.run.state()

    lost = {
        f"{TRAIN}learning_rate": "six points of 25 are lost to the client",
        f"{TRAIN}loss": "six of 24",
        "sys/failed": "a run that crashed is marked so",
    }
    Scenario(ours=NAN, changed=lost).check(theirs, ours)
    for path in (f"{TRAIN}learning_rate", f"{TRAIN}loss"):
        assert len(ours[path]) - len(theirs[path]) == 6
        assert [step for step, _ in ours[path]][: len(theirs[path])] == [
            step for step, _ in theirs[path]
        ]


def test_offline_and_then_synchronised(server, tmp_path):
    """`neptune sync`, and `hotloop sync`."""
    name = f"{CLIENT}offline_then_sync"
    theirs, _ = replayed(name)
    files = {"ckpt": bytes(10), "ckpt2": bytes(5)}
    events = logged(name, nan=True)
    for key, content in files.items():
        (tmp_path / f"{key}.bin").write_bytes(content)
        events.append(ArtifactReady(path=str(tmp_path / f"{key}.bin"), kind="file", name=key))
    run_dir = write_attempt(tmp_path / "run", events, config=parameters(name))
    assert deliver(run_dir, server, log_artifacts=True).complete

    places = {f"finetuning/artifacts/{key}": "below artifacts with us" for key in files}
    Scenario(ours=NAN | places, theirs=dict.fromkeys(files, "as above")).check(
        theirs, server.run.state()
    )


@pytest.mark.parametrize("lifetime", [3600.0, 20.0])
def test_throttled_cut_off_and_asked_for_another_token(tmp_path, lifetime):
    """429, 503, an answer that is lost; tokens that end: no difference is left."""
    name = f"{CLIENT}faults" if lifetime > 100 else f"{CLIENT}token_refresh"
    theirs, _ = replayed(name)
    run_dir = write_attempt(tmp_path / "run", logged(name, nan=True))
    with StandIn(lifetime=lifetime) as server:
        faults = [Refused(429, headers={"retry-after": "0"}), Refused(503), "lose"]
        server.faults["attributes/operations"].extend(faults)
        assert deliver(run_dir, server).complete

        Scenario(ours=NAN).check(theirs, server.run.state())


def test_a_project_that_is_full(server, tmp_path):
    """The client's thread dies of it, and its run stays empty; ours goes on when there is room."""
    theirs, _ = replayed(f"{CLIENT}limit_422")
    run_dir = write_attempt(tmp_path / "run", logged(f"{CLIENT}full"))
    server.faults["attributes/operations"].append(Refused(422, "PROJECT_LIMITS_EXCEEDED"))
    assert deliver(run_dir, server).status == "suspended"
    assert theirs == server.run.state() == {}
    assert deliver(run_dir, server).complete
    assert len(server.run.series(f"{TRAIN}learning_rate")) == 25


def test_transformers_trainer(server, tmp_path):
    """Parameters, metrics and the best checkpoint, as Transformers' callback had them written."""
    name = f"{CLIENT}hf_callback_best"
    theirs, _ = replayed(name)
    best = tmp_path / "checkpoint-10"
    best.mkdir()
    (best / "model.safetensors").write_bytes(bytes(10))
    epoch = MetricsLogged(step=10, metrics={"epoch": 1.0})
    checkpoint = ArtifactReady(
        step=10, path=str(best), kind="checkpoint", name="checkpoint-10", aliases=("best",)
    )
    run_dir = write_attempt(
        tmp_path / "run", [*logged(name), epoch, checkpoint], config=parameters(name)
    )
    settings = {"name": "hf-demo", "tags": ["hf"], "log_checkpoints": "best"}
    assert deliver(run_dir, server, **settings).complete

    Scenario(
        theirs={
            "finetuning/model_parameters/": "beside the arguments with us: a run has one config",
            "source_code/integrations/transformers": "it is not Transformers that trains",
        },
        changed={"finetuning/checkpoints/best": "files one by one instead of an archive"},
    ).check(theirs, server.run.state())


def test_requests_have_the_fields_of_the_clients(server, tmp_path):
    """No call of ours has a field that the client's does not have, or lacks one that it has."""
    client = replayed(f"{CLIENT}full")[1] | replayed(f"{CLIENT}hf_callback_best")[1]
    (tmp_path / "big").write_bytes(bytes(6 << 20))
    (tmp_path / "small").write_bytes(b"small")
    files = [ArtifactReady(path=str(tmp_path / n), kind="file", name=n) for n in ("big", "small")]
    run_dir = write_attempt(
        tmp_path / "run",
        [*logged(f"{CLIENT}full", nan=True), *files],
        config={"whole": 1, "half": 0.5},
    )
    assert deliver(run_dir, server, tags=["a"], log_artifacts=True).complete

    calls = {call for call, _ in server.fields}
    operations_of_theirs_alone = {"assignDatetime", "assignDatetime.valueMilliseconds"} | {
        each for _, each in client if each.startswith("deleteFiles")
    }
    theirs = {(call, each) for call, each in client if call in calls}
    assert theirs - server.fields == {
        ("POST attributes/operations", each) for each in operations_of_theirs_alone
    }
    assert server.fields - theirs == set()
