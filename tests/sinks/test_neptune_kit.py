"""The Neptune sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.neptune import NeptuneSink
from sinks.testing import ScriptedServer
from tests.servers.neptune import API_KEY, StandIn, api_token
from tests.sinks.tracker_suite import TrackerSuite


@pytest.mark.slow
class TestNeptune(TrackerSuite):
    """Neptune, with a token of this server."""

    stand_in = StandIn

    def make_sink(self, server: ScriptedServer) -> NeptuneSink:
        token = api_token(server.url)
        type(self).secrets = (token, API_KEY)
        return NeptuneSink(api_token=token, project="team/demo", timeout=1.0, read_timeout=0.7)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        runs = self.double.runs.values()
        return [value for run in runs for _, value in run.series("finetuning/train/n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        values = self.double.run.attributes.values
        assert values["sys/failed"] == (values["hotloop/outcome"] in ("failed", "crashed"))
        return values["hotloop/outcome"]
