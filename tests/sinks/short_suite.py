"""The conformance kit without what tries the HTTP client alone, for sinks that add little to it.

`make soak` runs all of it for them too, and so does HOTLOOP_SOAK=2.
"""

import os

import pytest

from sinks.testing import FAULTS, SinkSuite, serve, silent, status

OWN = {"429 in seconds", "500", "apply then drop"}
"""Faults that a sink can lose or double something by; the others end in the client."""


class _Some(SinkSuite):
    """Every kind of test, most of them with one fault or moment instead of all."""

    test_look_ups_that_hang = None
    test_a_server_that_cannot_show_who_it_is = None

    @pytest.mark.parametrize(
        "fault", [each for each in FAULTS if each.name in OWN], ids=lambda fault: fault.name
    )
    def test_a_fault_loses_nothing(self, fault, server, tmp_path):
        """As of the kit."""
        super().test_a_fault_loses_nothing(fault, server, tmp_path)

    @pytest.mark.parametrize(
        ("fault", "moment"),
        [(status(500), "at start"), (silent, "while logging"), (serve, "at exit")],
    )
    def test_training_goes_on(self, fault, moment, server, tmp_path):
        """As of the kit."""
        super().test_training_goes_on(fault, moment, server, tmp_path)

    @pytest.mark.parametrize("code", [401, 500])
    def test_secrets_stay_secret(self, code, server, tmp_path, caplog):
        """As of the kit."""
        super().test_secrets_stay_secret(code, server, tmp_path, caplog)


ShortSuite = SinkSuite if int(os.environ.get("HOTLOOP_SOAK", "1")) > 1 else _Some
