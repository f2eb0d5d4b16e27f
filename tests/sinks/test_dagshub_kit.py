"""The DagsHub sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.dagshub import DagsHubSink
from sinks.testing import ScriptedServer
from tests.servers.dagshub import MLFLOW, TOKEN, StandIn
from tests.sinks.tracker_suite import TrackerSuite


@pytest.mark.slow
class TestDagsHub(TrackerSuite):
    """DagsHub, with an access token."""

    stand_in = StandIn
    secrets = (TOKEN,)

    def make_sink(self, server: ScriptedServer) -> DagsHubSink:
        return DagsHubSink(
            tracking_uri=server.url + MLFLOW, user_token=TOKEN, timeout=1.0, read_timeout=0.7
        )
