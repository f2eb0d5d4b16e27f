"""Comet limits kinds of data apart: one that has to wait holds up no other, and nothing is lost."""

import pytest

import runtime
from bus import (
    ArtifactReady,
    ConsoleLineLogged,
    MetricsLogged,
    ParametersLogged,
    SummaryLogged,
)
from tests.servers.comet import KEY, Refused, StandIn
from tests.servers.comet_runs import SmallBatches, deliver
from tests.servers.journals import write_attempt
from tests.waiting import eventually

METRIC = "batch/logger/experiment/metric"
PARAMETER = "batch/logger/experiment/parameter"
OUTPUT = "write/experiment/output"
OTHER = "write/experiment/log-other"
ASSET = "asset/upload"
KINDS = {
    "metric": (METRIC,),
    "parameter": (PARAMETER,),
    "output": (OUTPUT,),
    "else": (OTHER, ASSET),
}

pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def later(seconds):
    """What Comet says of a kind of which it wants no more for so long."""
    return Refused(429, 0, "Too many requests", {"Retry-After-Custom": str(seconds)})


def mixed(tmp_path, count=9):
    """Records of each kind in turn, in stretches of a few."""
    (tmp_path / "data").write_bytes(b"d")
    found = []
    for n in range(count):
        found += [
            MetricsLogged(step=n, metrics={f"m{k}": float(n) for k in range(400)}),
            ConsoleLineLogged(text=f"line {n}"),
            ParametersLogged(parameters={f"p{n}": n}),
            SummaryLogged(values={f"o{n}": n}),
            ArtifactReady(path=str(tmp_path / "data"), kind="dataset", name=f"file {n}"),
        ]
    return found


def arrived(server, count=9):
    """Of which kinds everything is there, of which nothing, of which some."""
    found = server.experiment
    there = {
        "metric": (len(found.points), 400 * count),
        "parameter": (len(found.params), count),
        "output": (len(found.lines), count),
        "else": (len(found.assets), count),
    }
    return {kind: "all" if n == of else "some" if n else "none" for kind, (n, of) in there.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_others_go_on(server, tmp_path, kind):
    """All of them; what waited comes when Comet wants it, and each thing is sent once."""
    for call in KINDS[kind]:
        server.faults[call].append(later(3600))
    run_dir = write_attempt(tmp_path / "run", mixed(tmp_path))
    first = deliver(run_dir, server, log_assets="all")
    expected = {each: "none" if each == kind else "all" for each in KINDS}
    assert not first.complete
    assert arrived(server) == expected

    for call in KINDS[kind]:
        server.faults[call].clear()
    second = deliver(run_dir, server, log_assets="all")
    assert second.complete
    assert arrived(server) == dict.fromkeys(KINDS, "all")
    assert len(set(server.experiment.points)) == len(server.experiment.points)
    assert [body["values"][0]["step"] for body in server.calls(METRIC)] == sorted(
        body["values"][0]["step"] for body in server.calls(METRIC)
    )
    assert sum(len(body["values"]) for body in server.calls(PARAMETER)) <= 9 + 1
    assert sum(len(body["outputLines"]) for body in server.calls(OUTPUT)) <= 9 + 1
    assert len(server.calls(ASSET)) == 9


def test_later_batches_go_on_too(server, tmp_path):
    """Lines that are logged while metrics wait arrive; the points come once Comet takes them."""
    server.faults[METRIC].append(later(3600))
    sink = SmallBatches(api_key=KEY, url_override=server.url)
    with runtime.Run(name="waits", dir=tmp_path, sinks=[sink]) as run:
        for step in range(30):
            run.log({"loss": 1.0}, step=step)
        eventually(lambda: server.calls(METRIC))
        for n in range(3):
            run.publish(ConsoleLineLogged(text=f"line {n}"))
            eventually(lambda n=n: len(server.experiment.lines) == n + 1)
        assert server.experiment.points == []
    account = deliver(run.dir, server)

    assert account.complete
    assert server.experiment.series("loss") == [(step, 1.0) for step in range(30)]
    assert server.experiment.lines == {n: (f"line {n}\n", False) for n in range(3)}


def test_a_kind_keeps_its_order(server, tmp_path):
    """What is behind a point that waits, waits too, and Comet is not asked in between."""
    server.faults[METRIC].extend([None, later(0.05)])
    account = deliver(write_attempt(tmp_path / "run", mixed(tmp_path)), server, log_assets="all")

    steps = [step for name, step, *_ in server.experiment.points if name == "m0"]
    assert account.complete
    assert steps == list(range(9))
    assert len(server.calls(METRIC)) == 9 + 1


def test_what_goes_on_may_fail(server, tmp_path):
    """Nothing is lost or there twice, whichever waits or fails when, and whoever goes on."""
    server.faults[METRIC].extend([None, later(0.05), None, 500, None, later(0.05)])
    server.faults[OUTPUT].extend([500, later(0.05), None, 503])
    server.faults[ASSET].extend([None, later(0.05), "lose", 500])
    run_dir = write_attempt(tmp_path / "run", mixed(tmp_path))
    accounts = [deliver(run_dir, server, log_assets="all") for _ in range(4)]

    assert accounts[-1].complete
    assert arrived(server) == dict.fromkeys(KINDS, "all")
    assert len(set(server.experiment.points)) == len(server.experiment.points)
    assert server.experiment.lines == {n: (f"line {n}\n", False) for n in range(9)}


def test_another_attempt_begins_anew(server, tmp_path):
    """What was ahead in an earlier one says nothing about it."""
    server.faults[METRIC].append(later(3600))
    run_dir = write_attempt(tmp_path / "run", mixed(tmp_path), outcome=None)
    deliver(run_dir, server)
    server.faults[METRIC].clear()
    write_attempt(run_dir, [ConsoleLineLogged(text="again")], attempt=2, from_step=0)
    account = deliver(run_dir, server)

    assert account.complete
    assert ("again\n", False) in server.experiment.lines.values()
