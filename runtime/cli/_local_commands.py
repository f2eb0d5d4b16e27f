# ruff: noqa: D301 - "\b" is the character by which the help keeps a paragraph's lines
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
    sinks: Annotated[
        bool, typer.Option("--sinks", help="Also try each destination that is configured.")
    ] = False,
    sink_names: Annotated[
        list[str] | None,
        typer.Option(
            "--sink",
            "-s",
            metavar="NAME",
            help="Also try this destination alone, which has to work. Repeat for several.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and this folder, and say what to do about each finding.

    Versions; files of yours called runtime, bus or sinks that scripts would import instead of
    ours; the folder for runs: can it be written, is there space, is it on a network file system;
    the clock; processor cores and worker processes; and whether torch sees a GPU.

    With --sinks also every destination: those that are configured are asked whether they can be
    reached and whether the credentials hold, all at once, for 10 seconds at most; nothing is posted
    and nothing is left there. Of the others it is said what they lack.

    \b
    Examples:
      hotloop doctor
      hotloop doctor --path ~/experiments --dir /scratch/runs
      hotloop doctor --no-torch --json | jq '.[] | select(.level != "ok")'
      hotloop doctor --no-torch --sink mlflow --sink slack

    \b
    Exit codes:
      0   no problem (there may be warnings)
      1   at least one problem
      2   a folder or destination given does not exist
    """
    from runtime.cli._doctor_view import verdict, view
    from runtime.cli._output import show, show_json
    from runtime.cli.doctor import examine, try_sinks

    findings = examine(runs=runs, scripts=scripts or (), ask_torch=not no_torch)
    if sinks or sink_names:
        findings += try_sinks(runs, sink_names or ())
    if as_json:
        show_json(findings)
    else:
        show(view(findings), verdict(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(PROBLEM)


@ends_cleanly
def demo(
    *,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps in all.")] = None,
    directory: Annotated[
        Path, typer.Option("--dir", file_okay=False, help="Folder that holds the runs.")
    ] = Path("runs"),
    name: Annotated[
        str, typer.Option(help="Name of the run; a second one of that name becomes demo-2.")
    ] = "demo",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the newest run of that name where it stopped."),
    ] = False,
    crash_at: Annotated[
        int | None,
        typer.Option(min=1, metavar="STEP", help="Die as by kill -9 instead of taking this step."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest learning rate; 1000 makes it diverge.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train, as torch names it.")] = "cpu",
    quick: Annotated[
        bool, typer.Option("--quick", help="A toy for a second instead of minutes.")
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Print the summary only.")
    ] = False,
) -> None:
    """Train a small language model on this machine and show what the library does.

    It needs no network, no account and no GPU. The run is written to runs/demo (or demo-2, ...),
    where the other commands can look at it meanwhile, from another terminal. Kill it as hard as
    you like: --resume goes on from the last checkpoint and ends with the same weights.

    \b
    Examples:
      hotloop demo
      hotloop demo --quick --no-progress
      hotloop demo --crash-at 700; hotloop demo --resume

    \b
    Exit codes:
      0     trained to the end, or stopped as somebody asked
      1     training failed
      2     wrong usage: an option out of range, or nothing to resume
      130   interrupted with Ctrl-C; --resume goes on
      137   killed by --crash-at (128 + SIGKILL, as shells show it)
    """
    from runtime.cli._demo import train
    from runtime.demo import DemoOptions

    options = DemoOptions(
        dir=directory,
        name=name,
        steps=steps,
        seed=seed,
        learning_rate=learning_rate,
        quick=quick,
        resume=resume,
        crash_at=crash_at,
        device=device,
        progress=not no_progress,
    )
    train(options)
