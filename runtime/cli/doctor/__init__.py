"""`hotloop doctor`: what about this machine and this folder will trouble a run, and the mend.

Each module is a family of checks; a check is a function that returns findings and raises nothing,
unless what it was asked about does not exist.
"""

from collections.abc import Sequence
from pathlib import Path

from runtime.cli.doctor._accelerator import check_accelerator
from runtime.cli.doctor._disk import check_disk
from runtime.cli.doctor._finding import Finding, Level
from runtime.cli.doctor._machine import check_machine
from runtime.cli.doctor._shadows import check_shadows
from runtime.cli.doctor._versions import check_versions

__all__ = ["Finding", "Level", "examine", "try_sinks"]


def examine(*, runs: Path, scripts: Sequence[Path], ask_torch: bool) -> list[Finding]:
    """Runs every check.

    Args:
        runs: The folder runs are written to.
        scripts: Further folders that training scripts are started from.
        ask_torch: Whether to start a process that imports torch, which takes seconds.
    """
    findings = [
        *check_versions(),
        *check_shadows(scripts),
        *check_disk(runs),
        *check_machine(runs),
    ]
    return [*findings, check_accelerator()] if ask_torch else findings


def try_sinks(runs: Path, names: Sequence[str] = ()) -> list[Finding]:
    """Tries the connection of every destination, or of those named; takes ten seconds at most.

    Args:
        runs: The folder runs are written to.
        names: Destinations that have to work.

    Raises:
        UsageError: There is no destination of a name.
    """
    from runtime.cli.doctor._sinks import check_sinks  # noqa: PLC0415 - only who asks pays for it

    return check_sinks(runs, names)
