"""The same calls, through Comet's own client and through our sink, leave the same experiment.

What the recordings of that client leave on the stand-in is compared with what our sink leaves
there. Every difference is named: what each adds of its own accord in `comet_runs.shown`, the rest
by the tests.
"""

import math
from itertools import groupby

import pytest

import runtime
from bus import ArtifactReady, MetricsLogged, ParametersLogged, SummaryLogged, TextLogged
from sinks.comet import CometSink
from tests.servers.comet import KEY, Refused, StandIn
from tests.servers.comet_replay import NAMES, replayed
from tests.servers.comet_runs import deliver, shown
from tests.servers.journals import write_attempt
from tests.waiting import eventually

METRIC = "batch/logger/experiment/metric"


pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def theirs():
    with StandIn() as server:
        yield server


@pytest.fixture
def ours():
    with StandIn() as server:
        yield server


def logged(steps, **metrics):
    """Metrics of each step; a function is asked for the value at the step."""
    return [
        MetricsLogged(
            step=step,
            metrics={key: float(of(step)) if callable(of) else of for key, of in metrics.items()},
        )
        for step in steps
    ]


def losses(steps):
    """What most recordings log: the step itself, as the loss."""
    return logged(steps, loss=lambda step: step)


def basic(tmp_path):
    """Settings and events of `online_basic`."""
    (tmp_path / "model.bin").write_bytes(b"\x00\x01" * 64)
    (tmp_path / "asset.json").write_text('{"a": 1}')
    values = {7: math.nan, 8: math.inf, 9: -math.inf}
    config = {
        "flag": True,
        "layers": [2, 3],
        "lr": 0.001,
        "nanp": math.nan,
        "none": None,
        "opt": {"eps": 1e-8, "name": "adam"},
        "txt": "hello",
    }
    steps = logged(
        range(25),
        **{"train/loss": lambda n: values.get(n, 1 / (n + 1)), "train/lr": 0.001},
        epoch=lambda n: n // 10,
    )
    events = [
        *steps,
        ParametersLogged(
            parameters={"args": {"learning_rate": 0.1, "deep": {"x": 1}}, "config": {"hidden": 8}}
        ),
        *logged([24], accuracy=0.5, epoch=2.0),
        *logged([24], float_epoch=1.0, epoch=2.4),
        SummaryLogged(values={"dataset": "toy", "n_items": 3}),
        ArtifactReady(
            step=24, path=str(tmp_path / "asset.json"), kind="x", name="configs/asset.json"
        ),
        ArtifactReady(step=24, path=str(tmp_path / "model.bin"), kind="model", name="model.bin"),
        TextLogged(step=24, key="k", text="a text sample"),
    ]
    settings = {
        "log_assets": "all",
        "experiment_tags": "t0,alpha,beta",
        "experiment_name": "demo-run",
    }
    return config, events, settings


def test_a_whole_run(theirs, ours, tmp_path):
    """25 steps, numbers that JSON lacks, nested parameters, tags, files, a text; and its resume."""
    config, events, settings = basic(tmp_path)
    run_dir = write_attempt(tmp_path / "run", events, config=config)
    deliver(run_dir, ours, **settings)
    replayed(theirs, "online_basic")
    expected, found = shown(theirs), shown(ours)

    # Its client takes a context, which events do not have.
    assert expected["series"].pop("accuracy") == {(24, 2, 0.5, "validate")}
    assert found["series"].pop("accuracy") == {(24, 2, 0.5, None)}
    assert found == expected
    assert ours.experiment.others["Name"] == theirs.experiment.others["Name"]

    more = [
        *logged(range(25, 30), **{"train/loss": lambda n: 1 / (n + 1)}, epoch=2.0),
        ParametersLogged(parameters={"lr": 0.002}),
        SummaryLogged(values={"resumed": True}),
    ]
    write_attempt(run_dir, more, attempt=2, from_step=24, config=config)
    deliver(run_dir, ours, **settings)
    with StandIn() as resumed:
        replayed(resumed, "resume")
        assert shown(ours)["series"]["train/loss"] == shown(resumed)["series"]["train/loss"]
        for part in ("state", "tags", "params", "others"):
            assert shown(ours)[part] == shown(resumed)[part], part


def test_the_same_experiment_twice(theirs, ours, tmp_path):
    """Two processes that name one experiment, which may be there or not."""
    for step in (0, 1):
        run_dir = write_attempt(tmp_path / f"run{step}", logged([step], m=step + 1.0))
        deliver(run_dir, ours, experiment_key="a" * 16 + "b" * 16)
    replayed(theirs, "getorcreate")

    assert ours.experiments.keys() == theirs.experiments.keys()
    assert shown(ours) == shown(theirs)


def test_a_crash(theirs, ours, tmp_path):
    """Shown as crashed, with the error in our words."""
    error = "RuntimeError: boom in training"
    run_dir = write_attempt(tmp_path / "run", losses(range(3)), outcome="failed", error=error)
    deliver(run_dir, ours)
    replayed(theirs, "crash")
    expected, found = shown(theirs), shown(ours)

    said = "Unexpected error detected in the user script: RuntimeError('boom in training')"
    assert expected.pop("state") == (False, True, said)
    assert found.pop("state") == (False, True, error)
    assert found == expected


def test_a_kill(theirs, ours, tmp_path):
    """Theirs seems to live and lacks what it had not sent; ours has all, and has crashed."""
    deliver(write_attempt(tmp_path / "run", losses(range(30)), outcome=None), ours)
    replayed(theirs, "kill")
    expected, found = shown(theirs), shown(ours)

    assert expected["state"] == (True, False, None)
    assert found["state"] == (False, True, "the run crashed")
    assert expected["series"]["loss"] < found["series"]["loss"]
    assert len(found["series"]["loss"]) == 30


def test_the_stop_button(theirs, tmp_path):
    """The same mark; ours reaches the loop with the next heartbeat and ends the run as stopped."""
    replayed(theirs, "stop_from_ui")
    with StandIn(beat=20) as ours:
        sink = CometSink(api_key=KEY, url_override=ours.url)
        with runtime.Run(name="stop", dir=tmp_path, sinks=[sink]) as run:
            eventually(lambda: ours.experiments)
            ours.experiment.press_stop()
            steps = iter(range(1 << 30))
            eventually(lambda: run.safe_point(step=next(steps)).stop)
            eventually(lambda: "experiment_stopped_by_user" in ours.experiment.others)
        expected, found = shown(theirs), shown(ours)

    assert found["others"] == expected["others"] == {"experiment_stopped_by_user": True}
    assert found["state"] == expected["state"]


@pytest.mark.parametrize(
    ("name", "count", "fault"),
    [
        ("throttle_429", 40, Refused(429, 0, "slowly", {"Retry-After-Custom": "0.01"})),
        ("error_500_once", 20, 500),
        ("lost_answer_duplicates", 40, "lose"),
    ],
)
def test_a_fault(*, theirs, ours, tmp_path, name, count, fault):
    """The same points; after a lost answer both have some of them twice."""
    ours.faults[METRIC].append(fault)
    deliver(write_attempt(tmp_path / "run", losses(range(count))), ours)
    replayed(theirs, name)
    expected, found = shown(theirs), shown(ours)

    expected["files"] = {}  # a file that one recording logs to see that it is not held up
    assert found == expected
    for server in (ours, theirs):
        points = [point for point in server.experiment.points if point[0] == "loss"]
        assert (len(points) > count) == (fault == "lose")


def test_a_batch_that_is_refused(theirs, ours, tmp_path):
    """Theirs loses it and is marked with an error; ours is taken apart and arrives."""
    ours.faults[METRIC].append(400)
    account = deliver(write_attempt(tmp_path / "run", losses(range(20))), ours)
    replayed(theirs, "error_400_metrics")
    expected, found = shown(theirs), shown(ours)

    assert account.dead == 0
    assert expected["state"][2].startswith("Failed to send metrics")
    assert found["state"] == (False, False, None)
    assert found["series"]["loss"] - expected["series"]["loss"] == {(0, None, 0.0, None)}


def test_the_answer_to_the_first_call_is_lost(theirs, ours, tmp_path):
    """Theirs logs nothing at all; ours everything."""
    ours.faults["logger/add/run"].append("lose")
    deliver(write_attempt(tmp_path / "run", losses(range(3))), ours)
    replayed(theirs, "lost_answer_on_create")

    assert shown(theirs)["series"] == {}
    assert len(shown(ours)["series"]["loss"]) == 3


def test_a_trainer(theirs, ours, tmp_path):
    """What Transformers' trainer logged, with its callback's names, steps, epochs and settings."""
    replayed(theirs, "hf_trainer_cometcallback")
    config = nested(theirs.experiment.params)
    events = []
    for step, points in groupby(theirs.experiment.points, lambda point: point[1]):
        logs = {_as_logged(name): value for name, _, _, value, _, _ in points if "/" in name}
        # A prediction's numbers come by themselves and without the epoch, which Comet is told.
        for test in (False, True):
            some = {key: value for key, value in logs.items() if key.startswith("test_") == test}
            events.append(MetricsLogged(step=step, metrics=some))
    run_dir = write_attempt(tmp_path / "run", events, config=config)
    deliver(run_dir, ours, rewrite=True, experiment_name="hf-demo")
    expected, found = shown(theirs), shown(ours)

    # From its patch of `backward`, with a hidden synchronisation; nobody asked for it.
    assert len(expected["series"].pop("loss")) == 3
    assert theirs.experiment.others["Created from"] == "transformers"
    assert theirs.experiment.graph.startswith("M(")
    assert ours.experiment.graph is None
    assert found == expected


def nested(params):
    """Parameters as they were before they were joined by `|`."""
    found = {}
    for name, value in params.items():
        *outer, last = name.split("|")
        inner = found
        for each in outer:
            inner = inner.setdefault(each, {})
        inner[last] = value
    return found


def _as_logged(name):
    """`eval_loss` for `eval/loss`: what the trainer called it."""
    heading, _, key = name.partition("/")
    return key if heading == "train" else f"{heading}_{key}"


def fields(server):
    """For each call with a body the fields of its bodies, and of what they list."""
    found = {}
    for method, call, body in server.requests:
        if method == "POST" and body:
            items = [each for value in body.values() if isinstance(value, list) for each in value]
            for each in (body, *items):
                if isinstance(each, dict):
                    found.setdefault(call, set()).add(frozenset(each))
    return found


def test_the_fields_of_each_call(theirs, ours, tmp_path):
    """What we send has the fields that their client sends there, and no others."""
    for name in NAMES:
        if not name.startswith("native"):  # those are no recordings of their client
            replayed(theirs, name)
            theirs.experiments.clear()
    config, events, settings = basic(tmp_path)
    run_dir = write_attempt(tmp_path / "run", events, outcome=None, config=config)
    deliver(run_dir, ours, **settings)
    write_attempt(run_dir, [], attempt=2, from_step=24)
    deliver(run_dir, ours, **settings)
    expected, found = fields(theirs), fields(ours)

    # The public interface's call; their client asks an older one.
    assert found.pop("write/experiment/tags") == {frozenset({"experimentKey", "addedTags"})}
    assert found.keys() - {"write/experiment/update-status"} <= expected.keys()
    assert {call: each for call, each in found.items() if not each <= expected[call]} == {}
    # Their client describes the machine, asks for limits of pictures in space, and mails a summary.
    assert {
        "asset/3d-limits",
        "logger/get/run",
        "logger/copy-steps-from-experiment",
        "notification/experiment",
        "tags/add-tags-to-experiment",
        "write/experiment/graph",
        "write/experiment/output",
    } == expected.keys() - found.keys()
