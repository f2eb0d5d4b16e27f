"""The ClearML sink passes the conformance kit, against the strict stand-in."""

import pytest

from sinks.clearml import ClearmlSink
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from tests.servers.clearml import StandIn

SECRET = "secret-0123456789"  # noqa: S105 - of no server


@pytest.mark.slow
class TestClearml(SinkSuite):
    """ClearML, with a pair of keys."""

    secrets = (SECRET,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def service_double(self, monkeypatch, tmp_path):
        """A server for each test, and no credentials of whoever runs them."""
        monkeypatch.setenv("HOME", str(tmp_path))
        self.double = StandIn(access="access-key", secret=SECRET)
        with self.double:
            yield

    def make_sink(self, server: ScriptedServer) -> ClearmlSink:
        return ClearmlSink(
            api_host=server.url,
            api_access_key="access-key",
            api_secret_key=SECRET,
            timeout=1.0,
            read_timeout=0.7,
        )

    def service(self, request: Received) -> Reply:
        status, body, _ = self.double.answer(
            request.method, request.target, dict(request.headers), request.body
        )
        return Reply(status, body)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        tasks = self.double.tasks.values()
        return [value for task in tasks for _, value in task.series("train", "n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        task = self.double.task
        stopped = "preempted" if task.fields["status_reason"] == "preempted" else "stopped"
        return {"completed": "finished", "stopped": stopped}.get(task.status, task.status)
