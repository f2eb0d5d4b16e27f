"""The strict stand-in for ClearML with ClearML's own client beside it."""

import base64
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers.clearml import StandIn

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("clearml_client.py")


def find_python() -> str | None:
    """An interpreter that has the `clearml` package."""
    given = os.environ.get("HOTLOOP_CLEARML_PYTHON")
    if given:
        return given
    return sys.executable if importlib.util.find_spec("clearml") else None


def find_trainers() -> str | None:
    """The same, if it has Transformers and what ours needs too."""
    python = find_python()
    if python is None:
        return None
    command = [python, "-c", "import clearml, transformers, torch, anyio, orjson"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: S603
    return python if done.returncode == 0 else None


def token() -> str:
    """What the client takes for a token: it reads the end and the version in it."""
    facts = {"exp": 4_102_444_800, "api_version": "2.23", "server_version": "2.0.0"}
    parts = ({"alg": "HS256", "typ": "JWT"}, {**facts, "feature_set": "basic"})
    texts = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in parts]
    return ".".join(text.rstrip("=") for text in (*texts, "c2ln"))


class Client:
    """ClearML's own client, in processes of its own.

    Args:
        python: The interpreter.
        server: Where it goes.
        folder: Its home.
    """

    def __init__(self, python: str, server: StandIn, folder: Path) -> None:
        self._python = python
        self._folder = folder
        server.token = token()
        ours = {
            "CLEARML_API_HOST": server.url,
            "CLEARML_WEB_HOST": server.url,
            "CLEARML_FILES_HOST": server.url,
            "CLEARML_API_ACCESS_KEY": "FAKE",
            "CLEARML_API_SECRET_KEY": "FAKE",
            "CLEARML_CACHE_DIR": str(folder / "cache"),
            "HOME": str(folder),
            "PYTHONWARNINGS": "ignore",
        }
        kept = {key: each for key, each in os.environ.items() if not key.startswith("CLEARML_")}
        self.environment: dict[str, str] = {**kept, **ours}

    def train(self, library: str) -> None:
        """Run `clearml_trainer.py` under Transformers' trainer or ours."""
        module = ["-m", "tests.vendors.clearml_trainer", library, str(self._folder / "out")]
        names = {"CLEARML_PROJECT": "proj/sub", "CLEARML_TASK": "same", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(  # noqa: S603 - our own arguments
            [self._python, *module],
            capture_output=True,
            check=False,
            timeout=400,  # its client's second process takes two minutes to end at times
            env={**self.environment, **names},
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr.decode()

    def ask(self, *arguments: str, given: object = None) -> Any:
        """Run `clearml_client.py`; its last line, if it prints any JSON."""
        done = subprocess.run(  # noqa: S603 - our own arguments
            [self._python, str(CLIENT), *arguments],
            input=json.dumps(given).encode(),
            capture_output=True,
            check=False,
            timeout=100,
            env=self.environment,
            cwd=self._folder,
        )
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.decode().splitlines()
        return json.loads(lines[-1]) if arguments[0] != "write" else None
