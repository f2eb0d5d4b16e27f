# ruff: noqa: PLC0415 - a command imports what it needs when it runs: `hotloop --help` needs nothing
"""The commands that need no run, as the command line sees them. The work is done elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from runtime.cli._exit import PROBLEM, ends_cleanly
from runtime.cli._parameters import AsJson


@ends_cleanly
def doctor(
    *,
    scripts: Annotated[
        list[Path] | None,
        typer.Option(
            "--path",
            exists=True,
            help="Also look here: a folder training scripts are started from, or a script.",
        ),
    ] = None,
    runs: Annotated[Path, typer.Option("--dir", help="Folder that runs are written to.")] = Path(
        "runs"
    ),
    no_torch: Annotated[
        bool, typer.Option("--no-torch", help="Do not start torch, which takes seconds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    r"""Check this machine and this folder, and say what to do about each finding.

    Versions; files of yours called runtime, bus or sinks that scripts would import instead of
    ours; the folder for runs: can it be written, is there space, is it on a network file system;
    the clock; processor cores and worker processes; and whether torch sees a GPU.

    \b
    Examples:
      hotloop doctor
      hotloop doctor --path ~/experiments --dir /scratch/runs
      hotloop doctor --no-torch --json | jq '.[] | select(.level != "ok")'

    \b
    Exit codes:
      0   no problem (there may be warnings)
      1   at least one problem
      2   a folder given does not exist
    """
    from runtime.cli._doctor_view import verdict, view
    from runtime.cli._output import show, show_json
    from runtime.cli.doctor import examine

    findings = examine(runs=runs, scripts=scripts or (), ask_torch=not no_torch)
    if as_json:
        show_json(findings)
    else:
        show(view(findings), verdict(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(PROBLEM)
