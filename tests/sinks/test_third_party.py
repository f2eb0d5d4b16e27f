"""A third party's sink, from nothing but the documentation: packaged, installed, found, proved."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

SINK = '''
"""Posts metrics to a server of comma-separated lines."""

from pydantic import Field, HttpUrl, SecretStr

from bus import Batch, BatchLimits, MetricsLogged, Promise, State
from sinks import HttpSettings, HttpSink


class CsvServer(HttpSink):
    """Posts each batch as CSV. Delivery: at least once."""

    name = "csv-server"
    wants = (MetricsLogged,)
    limits = BatchLimits(events=500, age=2.0)
    promise = Promise(delivery="at least once", resumed="shows both")
    help = "Ask the operator of your CSV server for a key."

    class Settings(HttpSettings, env_prefix="CSV_SERVER_"):
        """Where the server is."""

        url: HttpUrl = Field(description="address that takes the lines")
        api_key: SecretStr = Field(description="key of your account")

    settings: Settings

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}

    async def write(self, batch: Batch, state: State) -> State:
        lines = [
            f"{record.event.step},{value}\\n"
            for record in batch
            for value in record.event.metrics.values()
        ]
        await self.http.post(self.settings.url, content="".join(lines))
        return state
'''

PROOF = """
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite

from csv_server import CsvServer

KEY = "key-0123456789"


class TestCsvServer(SinkSuite):
    secrets = (KEY,)

    def make_sink(self, server: ScriptedServer) -> CsvServer:
        return CsvServer(url=f"{server.url}/rows", api_key=KEY, timeout=1.0)

    def service(self, request: Received) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Reply(401)
        return Reply(200, {"ok": True})

    def received(self, server: ScriptedServer) -> list[float]:
        lines = b"".join(request.body for request in server.applied).decode().split()
        return [float(line.split(",")[1]) for line in lines]
"""


def build_wheel(folder: Path) -> Path:
    """A wheel as the packaging specification has it, made by hand."""
    info = "csv_server-1.0.dist-info"
    files: Mapping[str, str] = {
        "csv_server.py": SINK,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: csv-server\nVersion: 1.0\n",
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        f"{info}/entry_points.txt": "[hotloop.sinks]\ncsv-server = csv_server:CsvServer\n",
    }
    record = [f"{info}/RECORD,,"]
    path = folder / "csv_server-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record.append(f"{name},sha256={digest.decode().rstrip('=')},{len(text.encode())}")
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the wheel."""
    folder = tmp_path_factory.mktemp("third-party")
    wheel = build_wheel(folder)
    options = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site")]
    done = subprocess.run(  # noqa: S603 - a fixed command
        [*command, str(wheel)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def call(
    installed: Path, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - commands of these tests
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{installed}:{ROOT}", **variables},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_it_is_found_by_entry_point(installed, tmp_path):
    """`hotloop sinks` says what it is and what is missing, and that it is ready once it is set."""

    def listed(**variables: str) -> dict[str, str]:
        done = call(installed, tmp_path, "-m", "runtime.cli", "sinks", "--json", **variables)
        assert done.returncode == 0, done.stderr
        found = {each["name"]: each for each in json.loads(done.stdout)}
        return found["csv-server"]

    unset = listed()
    assert unset["readiness"] == "not configured"
    assert "CSV_SERVER_API_KEY" in unset["why"]
    assert "Ask the operator" in unset["why"]
    ready = listed(CSV_SERVER_URL="http://127.0.0.1:1/", CSV_SERVER_API_KEY="k")
    assert (ready["readiness"], ready["delivery"]) == ("ready", "at least once")
    assert ready["target"] == "csv_server:CsvServer"
    assert ready["summary"] == "Posts each batch as CSV. Delivery: at least once."


def test_it_proves_itself_with_the_kit(installed, tmp_path):
    """A test file of under fifty lines, run by pytest, in which every test passes."""
    assert len(PROOF.splitlines()) < 50
    (tmp_path / "test_csv_server.py").write_text(PROOF)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = call(installed, tmp_path, "-m", "pytest", "-q", "-x", "-p", "no:asyncio")

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
