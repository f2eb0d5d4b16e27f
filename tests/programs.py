"""Runs the programs of README and docs/, each by itself in a fork of one process with torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.interpreter import Ended, Interpreter

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"

_ALONE: Final = """
import os, sys, warnings
os.chdir(FOLDER)
os.environ.update({env!r})
sys.path.insert(0, {examples!r})
warnings.simplefilter("error")
exec(compile({code!r}, "<program>", "exec"), {{"__name__": "__main__"}})
"""


def run_program(
    interpreter: Interpreter, code: str, folder: Path, env: Mapping[str, str] | None = None
) -> Ended:
    """Run a program in a folder, which sees none of our names; warnings are errors.

    Args:
        env: Variables to set beside those that there are.
    """
    given = {"env": dict(env or {}), "examples": str(EXAMPLES), "code": code}
    return interpreter.run_script(folder, _ALONE.format(**given), 120.0)
