"""The conformance kit: our webhook passes it, and its tests catch sinks that are wrong."""

import pytest

from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from sinks.webhook import WebhookSink

KEY = "signing-0123456789"
PATH = "/hooks/T0123/B4567/path-0123456789"


@pytest.mark.slow
class TestWebhook(SinkSuite):
    """The generic webhook."""

    secrets = (KEY, PATH)
    patience = 6.0

    def make_sink(self, server: ScriptedServer) -> WebhookSink:
        return WebhookSink(
            url=server.url + PATH,
            secret=KEY,
            events=("metrics_logged",),
            timeout=1.0,
            read_timeout=0.7,
        )

    def service(self, request: Received) -> Reply:
        if request.target != PATH:
            return Reply(404)
        return Reply(200, {"ok": True})

    def received(self, server: ScriptedServer) -> list[float]:
        return [
            event["metrics"]["n"]
            for request in server.applied
            for event in request.json()["events"]
        ]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        return server.applied[-1].json()["outcome"]
