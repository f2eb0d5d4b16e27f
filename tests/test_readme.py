"""The README's code blocks, run in the order in which a newcomer would."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.interpreter import Interpreter
from tests.programs import run_program

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ hotloop (.*)\n((?:(?!\$ ).*\n)*)", flags=re.MULTILINE)
MAKE = re.compile(r"^make ([\w-]+)", flags=re.MULTILINE)

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def run_python(interpreter: Interpreter, code: str, folder: Path) -> None:
    done = run_program(interpreter, code, folder)
    assert done.code == 0, done.err


def test_only_known_languages():
    """Every block is of a kind that a test here runs or reads."""
    assert {kind for kind, _ in BLOCKS} <= {"python", "sh", "console", "text"}


def test_first_screen_comes_first():
    """The two commands stand at the top, and the first program has at most 20 lines of code."""
    first = BLOCKS[0][1]
    assert MAKE.findall(first) == ["demo", "test"]
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 20


def test_make_targets_exist():
    """Every `make` command of the README is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, text in BLOCKS:
        for target in MAKE.findall(text):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_first_program_and_its_commands(interpreter, tmp_path):
    """The first program runs; the commands shown under it print what is shown, but for numbers."""
    run_python(interpreter, blocks("python")[0], tmp_path)
    assert (tmp_path / "runs" / "first" / "run.json").exists()
    hotloop = Path(sysconfig.get_path("scripts")) / "hotloop"
    shown = blocks("console")
    assert shown
    for block in shown:
        for command, expected in re.findall(
            r"^\$ hotloop (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE
        ):
            done = subprocess.run(  # noqa: S603 - the README's own code
                [str(hotloop), *command.split()],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            )
            assert done.returncode == 0, done.stderr
            for word in ("metrics_logged", "decision_applied", "run_ended", "good_enough"):
                if word in expected:
                    assert word in done.stdout, command


@pytest.mark.parametrize("number", range(1, len(blocks("python"))))
def test_further_programs(number, interpreter, tmp_path):
    """Each later program runs by itself, warnings being errors."""
    run_python(interpreter, blocks("python")[number], tmp_path)


def test_links_lead_somewhere():
    """Every relative link points to a file of the repository."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
