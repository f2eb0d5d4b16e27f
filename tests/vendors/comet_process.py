"""Comet's own client in an interpreter that has it, at work on a stand-in."""

import json
from pathlib import Path
from typing import Any

from tests.servers.comet import KEY, StandIn
from tests.vendors.programs import run_program

CLIENT = Path(__file__).with_name("comet_client.py")


def environment(server: StandIn) -> dict[str, str]:
    """Where Comet is."""
    return {
        "COMET_API_KEY": KEY,
        "COMET_URL_OVERRIDE": f"{server.url}/clientlib/",
        "COMET_PROJECT_NAME": "tests",
        "COMET_AUTO_LOG_CO2": "0",  # it would start codecarbon, which is there for other tests
    }


def ask_client(python: str, what: str, told: object, server: StandIn, folder: Path) -> Any:
    """Have the client do something; what it answers.

    Args:
        python: The interpreter.
        what: A command of `comet_client.py`.
        told: What that is told.
        server: Where Comet is.
        folder: Where it works; it finds no settings there.
    """
    printed = run_program(
        *(python, str(CLIENT), what),
        folder=folder,
        environment=environment(server),
        given=json.dumps(told),
    )
    return json.loads(printed.rpartition("ANSWER ")[2])
