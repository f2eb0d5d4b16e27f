"""The strict stand-in for ClearML with ClearML's own client beside it."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.servers.clearml import StandIn
from tests.vendors.programs import run_program

CLIENT = Path(__file__).with_name("clearml_client.py")


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
        self.environment = {
            "CLEARML_API_HOST": server.url,
            "CLEARML_WEB_HOST": server.url,
            "CLEARML_FILES_HOST": server.url,
            "CLEARML_API_ACCESS_KEY": "FAKE",
            "CLEARML_API_SECRET_KEY": "FAKE",
            "CLEARML_CACHE_DIR": str(folder / "cache"),
        }

    def ask(self, *arguments: str, given: object = None) -> Any:
        """Run `clearml_client.py`; its last line, if it prints any JSON."""
        printed = run_program(
            *(self._python, str(CLIENT), *arguments),
            folder=self._folder,
            environment=self.environment,
            given=json.dumps(given),
        )
        return json.loads(printed.splitlines()[-1]) if arguments[0] != "write" else None
