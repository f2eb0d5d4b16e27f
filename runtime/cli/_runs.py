"""From what the user typed to a run directory, or to a message that helps them find it."""

from pathlib import Path

from runtime.cli._exit import UsageError

RUNS_FOLDER = Path("runs")
IDENTITY = "run.json"
JOURNAL = "journal"
_SHOWN = 8


class RunNotFoundError(UsageError):
    """No run lies where the user pointed.

    Attributes:
        given: What the user typed.
        searched: The folders that were looked at, in order.
        nearby: Runs close to there, the one written last first.
    """

    def __init__(self, given: str, searched: list[Path], nearby: list[Path]) -> None:
        places = " and ".join(str(path) for path in searched)
        lines = [
            f"no run at {given!r}: looked for a folder with {IDENTITY} or {JOURNAL}/ at {places}"
        ]
        if nearby:
            lines.append("runs nearby:")
            lines += [f"  {path}" for path in nearby]
        else:
            lines.append("no runs nearby either; `hotloop demo` makes one")
        super().__init__("\n".join(lines))
        self.given = given
        self.searched = searched
        self.nearby = nearby


def find_run_dir(given: str) -> Path:
    """The run directory meant by a path or by a bare name (`gpt` is `runs/gpt`).

    A path to the run's `run.json` or `journal` is taken for the run.

    Raises:
        RunNotFoundError: Nothing there looks like a run.
    """
    path = Path(given).expanduser()
    searched = [path]
    if len(path.parts) == 1 and not path.is_absolute():
        searched.append(RUNS_FOLDER / path)
    if path.name in {IDENTITY, JOURNAL}:
        searched.append(path.parent)
    for candidate in searched:
        if is_run(candidate):
            return candidate
    raise RunNotFoundError(given, searched, _runs_near(path))


def is_run(path: Path) -> bool:
    """Whether a folder holds a run: its identity, or at least its journal."""
    return (path / IDENTITY).is_file() or (path / JOURNAL).is_dir()


def _runs_near(path: Path) -> list[Path]:
    """Runs in the places where one would look next, newest first."""
    parents = [path, path / RUNS_FOLDER, path.parent, path.parent / RUNS_FOLDER, RUNS_FOLDER]
    found: dict[Path, Path] = {}
    for parent in parents:
        for child in _folders(parent):
            if is_run(child):
                found.setdefault(child.resolve(), child)
    return sorted(found.values(), key=_last_written, reverse=True)[:_SHOWN]


def _folders(parent: Path) -> list[Path]:
    try:
        return [child for child in parent.iterdir() if child.is_dir()]
    except OSError:
        return []


def _last_written(run_dir: Path) -> float:
    try:
        return max(
            path.stat().st_mtime for path in (run_dir, *run_dir.glob(IDENTITY)) if path.exists()
        )
    except OSError:
        return 0.0
