"""The Azure ML sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.azureml import AzureMLSink
from sinks.testing import ScriptedServer
from tests.servers.azureml import SCOPE, TOKEN, StandIn
from tests.sinks.tracker_suite import TrackerSuite


@pytest.mark.slow
class TestAzureML(TrackerSuite):
    """Azure ML, with a token."""

    stand_in = StandIn
    secrets = (TOKEN,)

    def make_sink(self, server: ScriptedServer) -> AzureMLSink:
        return AzureMLSink(
            tracking_uri=f"{server.url}/mlflow/v1.0{SCOPE}",
            tracking_token=TOKEN,
            timeout=1.0,
            read_timeout=0.7,
        )
