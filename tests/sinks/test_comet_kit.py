"""The Comet sink passes the conformance kit, against the strict stand-in."""

from functools import partial

import pytest

from sinks.comet import CometSink
from sinks.testing import ScriptedServer
from tests.servers.comet import StandIn
from tests.sinks.tracker_suite import TrackerSuite

API_KEY = "key-0123456789-of-nobody"


@pytest.mark.slow
class TestComet(TrackerSuite):
    """Comet, whose metrics are appended: what was lost on the way back is there twice."""

    stand_in = partial(StandIn, key=API_KEY)
    secrets = (API_KEY,)

    def make_sink(self, server: ScriptedServer) -> CometSink:
        return CometSink(api_key=API_KEY, url_override=server.url, timeout=1.0, read_timeout=0.7)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        found = self.double.experiments.values()
        return [value for experiment in found for _, value in experiment.series("n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return self.double.experiment.others["hotloop.outcome"]
