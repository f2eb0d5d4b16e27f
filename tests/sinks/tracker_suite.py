"""The conformance kit against a strict stand-in, of which each test has one of its own."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from sinks.testing import Received, Reply, ScriptedServer, SinkSuite
from tests.nobody import clear_environment


class TrackerSuite(SinkSuite):
    """What the suites of all trackers share; they say which metric and outcome arrived.

    Attributes:
        stand_in: Makes the stand-in.
    """

    patience = 4.0
    stand_in: ClassVar[Callable[[], Any]]

    @pytest.fixture(autouse=True)
    def service_double(self, monkeypatch, tmp_path):
        """A stand-in that is asked directly; no settings and no home of whoever runs the tests."""
        home = tmp_path / "home"
        home.mkdir()
        clear_environment(monkeypatch, home)
        monkeypatch.chdir(home)
        self.double = type(self).stand_in()

    def service(self, request: Received) -> Reply:
        reply = self.double.answer(request.method, request.target, request.headers, request.body)
        assert reply is not None
        return reply

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        return [value for run in self.double.runs.values() for _, value in run.series("n")]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return self.double.run.tags["hotloop.outcome"]
