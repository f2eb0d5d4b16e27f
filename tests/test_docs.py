"""The pages below docs/: their programs run, their tables are true, their links lead somewhere."""

import re
from pathlib import Path

import pytest

from sinks.testing import Reply, ScriptedServer
from tests.programs import run_program
from tests.sink_tables import renewed, shipped

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def name_of(page: Path) -> str:
    """A page's place below docs/, such as `concepts/events`."""
    return str(page.relative_to(ROOT / "docs").with_suffix(""))


BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
ELSEWHERE = re.compile(r"^import (accelerate|lightning|transformers)$", flags=re.MULTILINE)
"""What tests/vendors/test_bridges_examples.py runs where these are."""
PROGRAMS = [
    pytest.param(text, id=f"{name_of(page)}-{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if kind == "python" and not ELSEWHERE.search(text)
]
SHOWN = {
    "bridges": [
        f"bridge_{each}.py" for each in ("accelerate", "lightning", "logging", "transformers")
    ],
    "sinks/own": ["csv_server.py", "test_csv_server.py"],
}
"""The examples that pages show whole."""
SINKS = ROOT / "docs" / "sinks"


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
def test_programs(program, server, interpreter, tmp_path):
    """Each runs by itself in an empty folder, warnings being errors."""
    settings = {"CSV_SERVER_URL": server.url, "CSV_SERVER_API_KEY": "key-0123456789"}
    done = run_program(interpreter, program, tmp_path, settings)
    assert done.code == 0, done.err
    if "csv-server" in program:
        assert server.applied, done.err


@pytest.mark.parametrize("page", SHOWN)
def test_examples_are_shown_as_they_are(page):
    """The page's code is the file's, so that what the tests run is what people read."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    shown = [text for kind, text in BLOCK.findall(text) if kind == "python"]
    for name in SHOWN[page]:
        assert (EXAMPLES / name).read_text(encoding="utf-8") in shown, name


def test_every_sink_has_a_page():
    """And there is no page of a sink that is not shipped."""
    pages = {page.stem for page in SINKS.glob("*.md")} - {"index", "own"}
    assert pages == set(shipped())


@pytest.mark.parametrize("page", sorted(SINKS.glob("*.md")), ids=lambda page: page.stem)
def test_tables_are_up_to_date(page):
    """They say what the classes say; `make docs` writes them anew."""
    assert renewed(page) == page.read_text(encoding="utf-8"), "out of date: run `make docs`"


def test_every_setting_is_described():
    """A table without words helps nobody."""
    for name, kind in shipped().items():
        for field, info in kind.Settings.model_fields.items():
            assert info.description, f"{name}: {field}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    """Every relative link points to a file of the repository."""
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_every_page_is_in_the_menu():
    """And the menu names none that is not there; `make site` checks everything else."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"([\w/-]+)\.md", menu)) == sorted(map(name_of, PAGES))
