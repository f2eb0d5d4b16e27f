"""The ClearML sink passes the conformance kit, against the strict stand-in."""

from functools import partial

import pytest

from sinks.clearml import ClearmlSink
from sinks.testing import ScriptedServer
from tests.servers.clearml import StandIn
from tests.sinks.tracker_suite import TrackerSuite

SECRET = "secret-0123456789"  # noqa: S105 - of no server


@pytest.mark.slow
class TestClearml(TrackerSuite):
    """ClearML, with a pair of keys."""

    stand_in = partial(StandIn, access="access-key", secret=SECRET)
    secrets = (SECRET,)

    def make_sink(self, server: ScriptedServer) -> ClearmlSink:
        return ClearmlSink(
            api_host=server.url,
            api_access_key="access-key",
            api_secret_key=SECRET,
            timeout=1.0,
            read_timeout=0.7,
        )

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        tasks = self.double.tasks.values()
        return [value for task in tasks for _, value in task.series("train", "n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        task = self.double.task
        stopped = "preempted" if task.fields["status_reason"] == "preempted" else "stopped"
        return {"completed": "finished", "stopped": stopped}.get(task.status, task.status)
