"""Processes of `trainer_script.py`, which train whatever they are told to."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def find_python() -> str | None:
    """An interpreter that has Transformers, Accelerate and this library's dependencies."""
    return os.environ.get("HOTLOOP_HF_PYTHON")


class TrainerProcess:
    """Trains under one library, one training after another.

    Args:
        python: The interpreter.
        library: `transformers` or `hotloop`.
        folder: Where its errors are written.
    """

    def __init__(self, python: str, library: str, folder: Path) -> None:
        self.library = library
        self._errors = folder / f"{library}.txt"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                [python, "-m", "tests.vendors.trainer_script", library],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
                text=True,
            )

    def ask(self, training: dict[str, Any]) -> None:
        """Start a training without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(training) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what the training did."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._errors.read_text(encoding="utf-8", errors="replace")[-3000:]
        answer: dict[str, Any] = json.loads(line)
        return answer

    def train(self, training: dict[str, Any]) -> dict[str, Any]:
        """Train, and tell what happened."""
        self.ask(training)
        return self.answer()

    def close(self) -> None:
        """Let it end; what it still trains is not waited for."""
        self._process.kill()
        self._process.communicate()
