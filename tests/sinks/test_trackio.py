"""What Trackio is sent over HTTP; tests/vendors has its own server, and its database."""

import importlib.util
from urllib.parse import urlsplit

import orjson
import pytest

from bus import AlertRaised, MetricsLogged, NotConfiguredError, SystemMetricsLogged, sync_run
from sinks.testing import Received, Reply, ScriptedServer
from sinks.trackio import TrackioSink
from tests.sinks.local_sinks import NOON, write_run
from tests.sinks.short_suite import ShortSuite

TOKEN = "write-token-0123456789"  # noqa: S105 - of no server
FIELDS = {
    "bulk_log": {"project", "run", "run_id", "metrics", "step", "log_id", "config"},
    "bulk_log_system": {"project", "run", "run_id", "metrics", "timestamp", "log_id"},
    "bulk_alert": {
        *("project", "run", "run_id", "title", "text", "level", "step", "timestamp", "alert_id")
    },
}


class TrackioDouble:
    """As Trackio 0.43's server: rows are known by their ids, a wrong token is a 400.

    Attributes:
        rows: By call and id, the first of each.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, object]]] = {call: {} for call in FIELDS}
        self.config: dict[str, object] = {}

    def answer(self, request: Received) -> Reply:
        if request.method == "HEAD":
            return Reply(200)
        call = urlsplit(request.target).path.removeprefix("/api/")
        if request.headers.get("x-trackio-write-token") != TOKEN:
            return Reply(400, {"error": "A write_token is required to log metrics"})
        body = orjson.loads(request.body)
        name = "alerts" if call == "bulk_alert" else "logs"
        assert body.keys() == {name, "hf_token"}, body
        for row in body[name]:
            assert row.keys() <= FIELDS[call], row
            self.rows[call].setdefault(str(row.get("log_id") or row["alert_id"]), row)
            self.config = row.get("config") or self.config
        return Reply(200, {"data": None})


@pytest.fixture
def double(environment):
    del environment
    return TrackioDouble()


def test_a_run(double, tmp_path):
    """Rows with steps and words for what JSON lacks, settings with the first of them, alerts."""
    events = [
        MetricsLogged(time=NOON, step=3, metrics={"loss": 0.5, "nan": float("nan")}),
        SystemMetricsLogged(time=NOON, metrics={"cpu": 0.5}),
        AlertRaised(time=NOON, step=3, title="late", level="debug"),
    ]
    run_dir = write_run(tmp_path, events, config={"lr": 1.0})
    with ScriptedServer(double.answer) as server:
        (account,) = sync_run(run_dir, [TrackioSink(server_url=server.url, write_token=TOKEN)])

    assert account.complete
    (row,) = double.rows["bulk_log"].values()
    assert (row["metrics"], row["step"]) == ({"loss": 0.5, "nan": "NaN"}, 3)
    assert (row["project"], row["run"]) == ("tests", "run")
    assert double.config["lr"] == 1.0
    (system,) = double.rows["bulk_log_system"].values()
    assert system["metrics"] == {"cpu": 0.5}
    assert str(system["timestamp"]).startswith("2026-09-21T14:13:20")
    (alert,) = double.rows["bulk_alert"].values()
    assert alert["level"] == "info"


def test_settings_without_numbers(double, tmp_path):
    """They come to Trackio at the end, with a row that has none."""
    run_dir = write_run(tmp_path, [], config={"lr": 1.0})
    with ScriptedServer(double.answer) as server:
        sync_run(run_dir, [TrackioSink(server_url=server.url, write_token=TOKEN)])

    assert [row["metrics"] for row in double.rows["bulk_log"].values()] == [{}]
    assert double.config["lr"] == 1.0


class TestSettings:
    def test_the_address_that_it_prints(self, environment):
        """Has the token in it, which stays a secret."""
        environment.setenv("TRACKIO_SERVER_URL", f"http://127.0.0.1:7860/?write_token={TOKEN}")
        sink = TrackioSink()

        assert sink.settings.server_url == "http://127.0.0.1:7860"
        assert sink.headers() == {"x-trackio-write-token": TOKEN}
        assert TOKEN not in repr(sink.settings)

    def test_a_server_without_a_token(self, environment):
        """Takes nothing, so that is said first."""
        del environment
        with pytest.raises(NotConfiguredError, match="TRACKIO_WRITE_TOKEN"):
            TrackioSink(server_url="http://127.0.0.1:7860")

    @pytest.mark.skipif(
        importlib.util.find_spec("trackio") is not None, reason="trackio is installed"
    )
    def test_neither_a_package_nor_a_server(self, environment):
        """Both ways out are named."""
        del environment
        with pytest.raises(NotConfiguredError, match=r"hotloop\[trackio\].*TRACKIO_SERVER_URL"):
            TrackioSink()


@pytest.mark.slow
class TestTrackio(ShortSuite):
    """The conformance kit, on a server."""

    secrets = (TOKEN,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, environment):
        del environment
        self.double = TrackioDouble()

    def make_sink(self, server: ScriptedServer) -> TrackioSink:
        return TrackioSink(server_url=server.url, write_token=TOKEN, timeout=1.0, read_timeout=0.7)

    def service(self, request: Received) -> Reply:
        return self.double.answer(request)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        found = [row["metrics"] for row in self.double.rows["bulk_log"].values()]
        return [each["n"] for each in found if "n" in each]
