# ruff: noqa: D301 - "\b" is the character by which the help keeps a paragraph's lines
# ruff: noqa: PLC0415 - a command imports what it needs when it runs: `hotloop --help` needs nothing
"""The commands about destinations, as the command line sees them. The work is done elsewhere."""

from typing import Annotated

import typer

from runtime.cli._exit import PROBLEM, ends_cleanly
from runtime.cli._parameters import AsJson
from runtime.cli._runs import find_run_dir


@ends_cleanly
def sync(
    run_dirs: Annotated[
        list[str],
        typer.Argument(metavar="RUN_DIR...", help="Folders of runs. gpt means runs/gpt."),
    ],
    *,
    sinks: Annotated[
        list[str] | None,
        typer.Option(
            "--sink",
            "-s",
            metavar="NAME",
            help="Only to this sink; it need not have been part of the run. Repeat for several.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on while the run does.")
    ] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Send what a sink refused for good once more instead.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Deliver even where another process that lives does."),
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Give up after so long.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver what a run's own process did not: after a crash, an outage, or to a new sink.

    Each sink goes on where it stopped, and is told how the run ended. Without --sink it is every
    sink that the run has delivered to. Settings come from the environment.

    \b
    Examples:
      hotloop sync gpt
      hotloop sync runs/* --sink mlflow
      hotloop sync gpt --sink mlflow --dead

    \b
    Exit codes:
      0     everything is delivered
      1     something waits still, or was refused for good
      2     there is no such run or sink, it lacks settings, or another process delivers to it
      130   interrupted with Ctrl-C; the next time goes on from there
    """
    from runtime.cli._sync import deliver, resend

    folders = [find_run_dir(each) for each in run_dirs]
    if dead:
        complete = resend(folders, sinks or [], take_over=take_over, as_json=as_json)
    else:
        complete = deliver(
            folders,
            sinks or [],
            follow=follow,
            take_over=take_over,
            timeout=timeout,
            as_json=as_json,
        )
    if not complete:
        raise typer.Exit(PROBLEM)


@ends_cleanly
def sinks(*, as_json: AsJson = False) -> None:
    """List every destination: whether it can be used, what it promises, what is missing.

    "once" means that the destination recognises a batch that is sent again; "at least once" that
    after a crash in the middle of a batch that batch may be there twice.

    \b
    Examples:
      hotloop sinks
      hotloop sinks --json | jq '.[] | select(.readiness == "ready") | .name'

    \b
    Exit codes:
      0   listed
    """
    from runtime.cli._output import show, show_json
    from runtime.cli._sinks import look, view

    found = look()
    if as_json:
        show_json(found)
    else:
        show(view(found))
