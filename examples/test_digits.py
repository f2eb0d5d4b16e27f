"""The classifier in digits.py learns its digits, and goes on where it was interrupted."""

import sys
from collections.abc import Iterator
from pathlib import Path

import digits
import pytest
import torch

from bus import RunInfo


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The classifier is too small to share, and threads wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.timeout(90)
def test_learns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After one epoch and, resumed, three more it is right about more than 90 % of the images."""
    folder = tmp_path / "digits"

    def told(*options: str) -> dict[str, str]:
        monkeypatch.setattr(sys, "argv", ["digits.py", "--folder", str(folder), *options])
        digits.main()
        return dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines()[-4:])

    first = told("--epochs", "1")
    assert first["steps"].strip() == "44 of at most 44"
    resumed = told("--epochs", "4", "--resume")
    assert resumed["steps"].strip() == "176 of at most 176"

    accuracy = float(resumed["best accuracy"].split("%")[0])
    assert accuracy > max(90, float(first["best accuracy"].split("%")[0]))
    assert (folder / resumed["checkpoint"].strip()).is_dir()
    attempts = RunInfo.load(folder / "runs" / "digits").attempts
    assert [each.outcome for each in attempts] == ["finished", "finished"]
    rows = (folder / "runs" / "digits" / "metrics.csv").read_text(encoding="utf-8")
    assert "eval_accuracy" in rows.splitlines()[0]
