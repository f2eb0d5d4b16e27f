# ruff: noqa: D301 - "\b" is the character by which the help keeps a paragraph's lines
# ruff: noqa: PLC0415 - a command imports what it needs when it runs: `hotloop --help` needs nothing
"""The commands that ask something of a run, as the command line sees them."""

from typing import Annotated, TypeAlias

import typer

from runtime.cli._exit import ends_cleanly
from runtime.cli._parameters import RunDir
from runtime.cli._runs import find_run_dir

Reason: TypeAlias = Annotated[
    str, typer.Option("--reason", "-r", metavar="TEXT", help="Why, for the journal.")
]
NoWait: TypeAlias = Annotated[
    bool, typer.Option("--no-wait", help="Leave the request there and do not wait.")
]
Timeout: TypeAlias = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0, help="How long to wait for the run to take it."),
]


@ends_cleanly
def stop(
    run_dir: RunDir, *, reason: Reason = "", no_wait: NoWait = False, timeout: Timeout = 10.0
) -> None:
    """End a training that goes on, after the step it is at.

    The request is a file in the run's folder, so this works from any machine that sees the folder.
    The journal says who asked and why; the run's outcome becomes `stopped`. The command waits
    until the run has taken the request.

    \b
    Examples:
      hotloop stop gpt --reason "loss has been flat since noon"
      hotloop stop /shared/runs/gpt --no-wait

    \b
    Exit codes:
      0   the run has taken the request; with --no-wait: it lies there
      1   it has not: it has ended, or did not take it in time
      2   there is no such run
    """
    from bus import Stop
    from runtime.cli._requests import ask

    typer.echo(ask(find_run_dir(run_dir), Stop, reason, None if no_wait else timeout))


@ends_cleanly
def save(
    run_dir: RunDir, *, reason: Reason = "", no_wait: NoWait = False, timeout: Timeout = 10.0
) -> None:
    """Have a training that goes on write a checkpoint, after the step it is at.

    A loop of one's own saves if it looks at `Run.safe_point(...).save`.

    \b
    Examples:
      hotloop save gpt --reason "before the maintenance"

    \b
    Exit codes:
      0   the run has taken the request; with --no-wait: it lies there
      1   it has not: it has ended, or did not take it in time
      2   there is no such run
    """
    from bus import Save
    from runtime.cli._requests import ask

    typer.echo(ask(find_run_dir(run_dir), Save, reason, None if no_wait else timeout))
