"""The pages below docs/: their programs run, their tables are true, their links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sinks.testing import Reply, ScriptedServer
from tests.sink_tables import renewed, shipped

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
PROGRAMS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if kind == "python"
]
SINKS_PAGE = (ROOT / "docs" / "sinks.md").read_text(encoding="utf-8")


@pytest.fixture
def server():
    """The server of the examples."""
    with ScriptedServer(lambda _request: Reply(201)) as server:
        yield server


def test_only_known_languages():
    """Every block is of a kind that a test here runs, or is for a shell or a file."""
    for page in PAGES:
        kinds = {kind for kind, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
        assert kinds <= {"python", "sh", "toml", "text", "console"}, page


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program, server, tmp_path):
    """Each runs by itself in an empty folder, warnings being errors."""
    settings = {"CSV_SERVER_URL": server.url, "CSV_SERVER_API_KEY": "key-0123456789"}
    path = os.pathsep.join([str(EXAMPLES), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - the page's own code
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, **settings, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "csv-server" in program:
        assert server.applied, done.stderr


@pytest.mark.parametrize("name", ["csv_server.py", "test_csv_server.py"])
def test_examples_are_shown_as_they_are(name):
    """The page's code is the file's, so that what the tests run is what people read."""
    shown = [text for kind, text in BLOCK.findall(SINKS_PAGE) if kind == "python"]
    assert (EXAMPLES / name).read_text(encoding="utf-8") in shown


def test_tables_are_up_to_date():
    """They say what the classes say; `make docs` writes them anew."""
    assert renewed(SINKS_PAGE) == SINKS_PAGE, "out of date: run `make docs`"


def test_every_setting_is_described():
    """A table without words helps nobody."""
    for name, kind in shipped().items():
        for field, info in kind.Settings.model_fields.items():
            assert info.description, f"{name}: {field}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """Every relative link points to a file of the repository."""
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
