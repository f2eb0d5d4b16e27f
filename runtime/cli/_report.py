"""`hotloop report`: hands over to `runtime.report` and translates what can go wrong."""

from pathlib import Path

from runtime.cli._exit import UsageError
from runtime.report import write_report


def write(run_dir: Path, out: Path | None) -> Path:
    """Writes the report and returns where it is, as an absolute path.

    Raises:
        UsageError: The file cannot be written there.
    """
    try:
        return write_report(run_dir, out).absolute()
    except OSError as error:
        where = out or run_dir
        raise UsageError(
            f"cannot write the report to {where}: {error.strerror or error}"
        ) from error
