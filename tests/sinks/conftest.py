"""Servers that do as they are told, and the plainest sink there is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from pydantic import SecretStr

from bus import Batch, State
from sinks import HttpSettings, HttpSink
from sinks.testing import ScriptedServer
from tests.nobody import clear_environment

KEY = "key-0123456789"
# Runs load torch. If the first of them is cut off by its test's time limit in the middle of that,
# torch can never be loaded again in this process, so it is loaded before there is any limit.
assert torch.__version__


class PlainSink(HttpSink):
    """Has a key, and a client to try."""

    name = "plain"

    class Settings(HttpSettings, env_prefix="PLAIN_TEST_"):
        url: str
        key: SecretStr = SecretStr(KEY)

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.settings.key.get_secret_value()}"}

    async def write(self, batch: Batch, state: State) -> State:
        del batch
        return state


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sink(server, anyio_backend):
    """Sends to the server; its connections are closed at the end."""
    del anyio_backend
    sink = PlainSink(url=server.url, timeout=2.0, connect_timeout=1.0, read_timeout=1.0)
    yield sink
    await sink.release()


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Without settings of whoever runs the tests; the home is the test's folder."""
    clear_environment(monkeypatch, tmp_path)
    return monkeypatch


@pytest.fixture
def no_comet(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same with a home and a working folder that are apart, and empty."""
    for folder in ("home", "here"):
        (tmp_path / folder).mkdir()
    environment.setenv("HOME", str(tmp_path / "home"))
    environment.chdir(tmp_path / "here")
    return tmp_path
