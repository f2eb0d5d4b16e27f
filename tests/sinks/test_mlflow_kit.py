"""The MLflow sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.mlflow import MlflowSink
from sinks.testing import Received, Reply, ScriptedServer
from tests.servers.mlflow import StandIn
from tests.sinks.tracker_suite import TrackerSuite

TOKEN = "token-0123456789"  # noqa: S105 - of no server


@pytest.mark.slow
class TestMlflow(TrackerSuite):
    """MLflow, with a token."""

    stand_in = StandIn
    secrets = (TOKEN,)

    def make_sink(self, server: ScriptedServer) -> MlflowSink:
        return MlflowSink(
            tracking_uri=server.url, tracking_token=TOKEN, timeout=1.0, read_timeout=0.7
        )

    def service(self, request: Received) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply(401)
        return super().service(request)
