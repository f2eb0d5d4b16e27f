"""The W&B sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from sinks.wandb import WandbSink
from tests.servers.wandb import KEY, StandIn


@pytest.mark.slow
class TestWandb(SinkSuite):
    """W&B, with a key."""

    secrets = (KEY,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, wandb_environment):
        """A server for each test, and no settings of whoever runs them."""
        del wandb_environment
        self.double = StandIn()

    def make_sink(self, server: ScriptedServer) -> WandbSink:
        return WandbSink(base_url=server.url, api_key=KEY, timeout=1.0, read_timeout=0.7)

    def service(self, request: Received) -> Reply:
        status, body, _, _ = self.double.answer(
            request.method, request.target, dict(request.headers), request.body
        )
        return Reply(status, body)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        return [row["n"] for run in self.double.runs.values() for row in run.history]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return self.double.run.values()["hotloop"]["outcome"]
