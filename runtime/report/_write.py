"""Write a run's report beside its journal."""

import os
from pathlib import Path

from bus import JournalReader
from runtime.report._page import render
from runtime.report._run import describe
from runtime.report._story import Story

REPORT_FILE = "report.html"


def write_report(run_dir: Path, target: Path | None = None, *, points: int = 4000) -> Path:
    """Write one HTML file with everything the journal of a run tells.

    It opens from disk without a network. The run may be over, killed, or still going on; damaged
    journal lines are left out and counted on the page. The file appears whole or not at all.

    Args:
        run_dir: The run's folder.
        target: Where to write; `report.html` in the run's folder by default. Replaced if there.
        points: The most points of a line that are drawn at a time, at least 8; thinning keeps
            every spike, and zooming in shows up to ten times as many.

    Returns:
        The file written.

    Raises:
        RunNotFoundError: The folder holds no run.
        ValueError: `points` is too small.
        OSError: The file cannot be written.
    """
    journal = JournalReader(run_dir)
    story = Story.of(journal)
    page = render(describe(run_dir, journal, story, points))
    target = target or run_dir / REPORT_FILE
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(page, encoding="utf-8", newline="\n")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target
