"""The conformance kit against a strict stand-in, of which each test has one of its own."""

import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from sinks.testing import Received, Reply, ScriptedServer, SinkSuite


class TrackerSuite(SinkSuite):
    """What the suites of all trackers share; they say which metric and outcome arrived.

    Attributes:
        stand_in: Makes the stand-in.
        prefixes: Of the service's variables, which whoever runs the tests may have set.
    """

    patience = 4.0
    stand_in: ClassVar[Callable[[], Any]]
    prefixes: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture(autouse=True)
    def service_double(self, monkeypatch, tmp_path):
        """A stand-in that is asked directly; no settings and no home of whoever runs the tests."""
        for name in [each for each in os.environ if each.startswith(self.prefixes)]:
            monkeypatch.delenv(name)
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
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
