"""Each recipe does what its first line says."""

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import alert_on_divergence
import best_model_uploader
import bridge_logging
import custom_event
import gradient_norms
import live_csv
import lower_the_rate
import own_service
import pytest
import samples_elsewhere
import save_on_schedule
import stop_at_cost
import torch

from bus import AlertRaised, DecisionApplied, JournalReader, MessageLogged, TextLogged
from bus.testing import JournalAsserter
from sinks.testing import Received, Reply, ScriptedServer


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs are made in `runs` here; one thread, because the model is too small to share."""
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_alert_on_divergence() -> None:
    """Training stops soon after the data went bad, and the alert says at which step it saw that."""
    last = alert_on_divergence.main()
    assert last >= 150
    run = Path("runs/alert_on_divergence")
    (alert,) = JournalReader(run).records(types=(AlertRaised,))
    assert isinstance(alert.event, AlertRaised)
    assert alert.event.level == "error"
    assert alert.event.step == 150
    JournalAsserter(run).complete().ends("stopped")


def test_save_on_schedule() -> None:
    """Each checkpoint has its request in the journal, and at least the asked time lies between."""
    names = save_on_schedule.main()
    assert len(names) >= 3
    applied = [
        record.event
        for record in JournalReader(Path("runs/save_on_schedule")).records(types=(DecisionApplied,))
        if isinstance(record.event, DecisionApplied)
    ]
    saves = [event for event in applied if event.by == "save_now_and_then"]
    assert len(saves) == len(names)
    assert {f"checkpoint-{event.step}.pt" for event in saves} == set(names)
    assert applied[-1].by == "enough"


def test_stop_at_cost() -> None:
    """The run is saved and stopped, and says what it has cost."""
    last = stop_at_cost.main()
    run = Path("runs/stop_at_cost")
    assert (run / f"checkpoint-{last}.pt").exists()
    *_, stop = JournalReader(run).records(types=(DecisionApplied,))
    assert isinstance(stop.event, DecisionApplied)
    assert stop.event.reason.endswith("of 0.02 is spent")
    JournalAsserter(run).complete().ends("stopped")


def test_lower_the_rate() -> None:
    """The rate is halved again and again, at the same steps in each run."""
    rates = lower_the_rate.main()
    assert rates
    assert all(later == earlier / 2 for earlier, later in pairwise([0.4, *rates]))
    assert lower_the_rate.main() == rates


def test_live_csv() -> None:
    """There is a row for each step."""
    rows = list(csv.DictReader(live_csv.main().read_text(encoding="utf-8").splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(1, 301))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_gradient_norms() -> None:
    """The wild batch is found in every parameter, and nothing else is."""
    found = gradient_norms.main()
    assert {spike.step for spike in found} == {80}
    assert {spike.parameter for spike in found} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert all(spike.norm > 10 * spike.usual for spike in found)


def test_best_model_uploader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server has in the end is one of the checkpoints, byte by byte."""

    def takes(request: Received) -> Reply:
        return Reply(200 if request.method == "PUT" else 405)

    with ScriptedServer(takes) as server:
        monkeypatch.setenv("BEST_MODEL_URL", f"{server.url}/best.pt")
        best_model_uploader.main()
        uploaded = [request.body for request in server.applied]
    run = Path("runs/best_model_uploader")
    checkpoints = [path.read_bytes() for path in run.glob("checkpoint-*.pt")]
    assert uploaded
    assert all(body in checkpoints for body in uploaded)


def test_samples_elsewhere() -> None:
    """The samples made in other processes stand in the journal, the last one nearly right."""
    samples_elsewhere.main()
    samples = [
        record.event
        for record in JournalReader(Path("runs/samples_elsewhere")).records(types=(TextLogged,))
    ]
    said = [
        record.event
        for record in JournalReader(Path("runs/samples_elsewhere")).records(types=(MessageLogged,))
    ]
    assert samples, said
    assert isinstance(samples[-1], TextLogged)
    assert float(samples[-1].text.split("=")[1]) == pytest.approx(36, abs=0.5)


def test_own_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every point is there, under the token."""

    def takes(request: Received) -> Reply:
        return Reply(200 if request.headers.get("authorization") == "Bearer token-1234" else 401)

    with ScriptedServer(takes) as server:
        monkeypatch.setenv("POINTS_URL", server.url)
        monkeypatch.setenv("POINTS_TOKEN", "token-1234")
        own_service.main()
        bodies = [json.loads(request.body) for request in server.applied]
    points = [point for body in bodies for point in body["points"]]
    assert [point["step"] for point in points] == list(range(1, 301))
    assert {body["run"] for body in bodies} == {"own_service"}


def test_custom_event() -> None:
    """The journal has both events with their own fields, and the alerts made of them."""
    first, second = custom_event.main()
    assert (first.index, first.samples, first.why) == (2, 0, "empty")
    assert (second.index, second.samples, second.why) == (3, 2, "not finite")
    alerts = list(JournalReader(Path("runs/custom_event")).records(types=(AlertRaised,)))
    assert [record.event.step for record in alerts] == [2, 3]


def test_bridge_logging() -> None:
    """Both lines are in the journal, the second with its traceback."""
    records = JournalReader(bridge_logging.main()).records(types=(MessageLogged,))
    warned, failed = (each.event for each in records if isinstance(each.event, MessageLogged))
    assert (warned.level, warned.text) == ("warning", "my_training: the data has 3 empty samples")
    assert failed.level == "error"
    assert failed.text.startswith("my_training: a shard is left out\nTraceback")
