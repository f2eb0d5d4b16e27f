"""Comet's own client in an interpreter that has it, at work on a stand-in."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.comet import KEY, StandIn

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("comet_client.py")


def find_python() -> str | None:
    """An interpreter that has comet_ml, Transformers and what those need."""
    return os.environ.get("HOTLOOP_COMET_PYTHON")


def ask_client(python: str, what: str, told: object, server: StandIn, folder: Path) -> Any:
    """Have the client do something; what it answers.

    Args:
        python: The interpreter.
        what: A command of `comet_client.py`.
        told: What that is told.
        server: Where Comet is.
        folder: Where it works; it finds no settings there.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COMET_")}
    ours = {
        "COMET_API_KEY": KEY,
        "COMET_URL_OVERRIDE": f"{server.url}/clientlib/",
        "COMET_PROJECT_NAME": "tests",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(  # noqa: S603 - our own arguments
        [python, str(CLIENT), what],
        input=json.dumps(told),
        env={**kept, **ours},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    _, answered, answer = done.stdout.rpartition("ANSWER ")
    assert answered, done.stderr[-3000:]
    return json.loads(answer)
