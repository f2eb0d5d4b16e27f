"""The W&B sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.testing import ScriptedServer
from sinks.wandb import WandbSink
from tests.servers.wandb import KEY, StandIn
from tests.sinks.tracker_suite import TrackerSuite


@pytest.mark.slow
class TestWandb(TrackerSuite):
    """W&B, with a key."""

    stand_in = StandIn
    secrets = (KEY,)

    def make_sink(self, server: ScriptedServer) -> WandbSink:
        return WandbSink(base_url=server.url, api_key=KEY, timeout=1.0, read_timeout=0.7)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        return [row["n"] for run in self.double.runs.values() for row in run.history]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return self.double.run.values()["hotloop"]["outcome"]
