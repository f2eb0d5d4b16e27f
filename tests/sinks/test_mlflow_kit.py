"""The MLflow sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.mlflow import MlflowSink
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from tests.servers.mlflow import StandIn

TOKEN = "token-0123456789"  # noqa: S105 - of no server


@pytest.mark.slow
class TestMlflow(SinkSuite):
    """MLflow, with a token."""

    secrets = (TOKEN,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, monkeypatch, tmp_path):
        """A server for each test, and no credentials of whoever runs them."""
        monkeypatch.setenv("HOME", str(tmp_path))
        self.double = StandIn()
        with self.double:
            yield

    def make_sink(self, server: ScriptedServer) -> MlflowSink:
        return MlflowSink(
            tracking_uri=server.url, tracking_token=TOKEN, timeout=1.0, read_timeout=0.7
        )

    def service(self, request: Received) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply(401)
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
