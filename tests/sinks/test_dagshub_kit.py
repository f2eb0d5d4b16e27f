"""The DagsHub sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.dagshub import DagsHubSink
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from tests.servers.dagshub import REPOSITORY, TOKEN, StandIn


@pytest.mark.slow
class TestDagsHub(SinkSuite):
    """DagsHub, with an access token."""

    secrets = (TOKEN,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, monkeypatch, tmp_path):
        """A server for each test, and no credentials of whoever runs them."""
        monkeypatch.setenv("HOME", str(tmp_path))
        self.double = StandIn()
        with self.double:
            yield

    def make_sink(self, server: ScriptedServer) -> DagsHubSink:
        return DagsHubSink(
            tracking_uri=f"{server.url}/{REPOSITORY}.mlflow",
            user_token=TOKEN,
            timeout=1.0,
            read_timeout=0.7,
        )

    def service(self, request: Received) -> Reply:
        status, body, _ = self.double.answer(
            request.method, request.target, dict(request.headers), request.body
        )
        return Reply(status, body)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        return [value for run in self.double.runs.values() for _, value in run.series("n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return self.double.run.tags["hotloop.outcome"]
