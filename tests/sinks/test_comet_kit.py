"""The Comet sink passes the conformance kit, against the strict stand-in."""

import json

import pytest

from sinks.comet import CometSink
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from tests.servers.comet import StandIn

API_KEY = "key-0123456789-of-nobody"


@pytest.mark.slow
class TestComet(SinkSuite):
    """Comet, whose metrics are appended: what was lost on the way back is there twice."""

    secrets = (API_KEY,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, no_comet):
        """A server for each test, and no settings of whoever runs them."""
        del no_comet
        self.double = StandIn(key=API_KEY)
        with self.double:
            yield

    def make_sink(self, server: ScriptedServer) -> CometSink:
        return CometSink(api_key=API_KEY, url_override=server.url, timeout=1.0, read_timeout=0.7)

    def service(self, request: Received) -> Reply:
        headers = {
            name: value for name, value in request.headers.items() if name != "content-encoding"
        }
        status, more, body, _ = self.double.answer(
            request.method, request.target, headers, request.body
        )
        return Reply(status, json.loads(body), more)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        found = self.double.experiments.values()
        return [value for experiment in found for _, value in experiment.series("n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return self.double.experiment.others["hotloop.outcome"]
