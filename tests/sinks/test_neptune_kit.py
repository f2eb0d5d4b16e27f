"""The Neptune sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.neptune import NeptuneSink
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from tests.servers.neptune import API_KEY, StandIn, api_token


@pytest.mark.slow
class TestNeptune(SinkSuite):
    """Neptune, with a token of this server."""

    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, monkeypatch):
        """A server for each test, and no settings of whoever runs them."""
        for name in ("NEPTUNE_API_TOKEN", "NEPTUNE_PROJECT", "NEPTUNE_MODE"):
            monkeypatch.delenv(name, raising=False)
        self.double = StandIn()
        with self.double:
            yield

    def make_sink(self, server: ScriptedServer) -> NeptuneSink:
        token = api_token(server.url)
        type(self).secrets = (token, API_KEY)
        return NeptuneSink(api_token=token, project="team/demo", timeout=1.0, read_timeout=0.7)

    def service(self, request: Received) -> Reply:
        status, headers, body, _ = self.double.answer(
            request.method, request.target, dict(request.headers), request.body
        )
        return Reply(status, body, headers)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        runs = self.double.runs.values()
        return [value for run in runs for _, value in run.series("finetuning/train/n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        values = self.double.run.attributes.values
        assert values["sys/failed"] == (values["hotloop/outcome"] in ("failed", "crashed"))
        return values["hotloop/outcome"]
