# ruff: noqa: D301 - "\b" is the character by which the help keeps a paragraph's lines
"""The command line as a whole: its commands, `--version`, and how the process ends."""

import sys
from typing import Annotated

import typer

from runtime.cli._checkpoint_commands import consolidate
from runtime.cli._exit import INTERRUPTED, OK, discard_output
from runtime.cli._local_commands import demo, doctor
from runtime.cli._request_commands import save, stop
from runtime.cli._run_commands import export, report, status, tail
from runtime.cli._sink_commands import sinks, sync
from runtime.cli._version import installed_version

app = typer.Typer(
    name="hotloop",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Runs the command line and exits with its code."""
    reconfigure: object = getattr(sys.stdout, "reconfigure", None)
    if callable(reconfigure):
        # A terminal that cannot show a character gets its escape instead of a traceback.
        reconfigure(errors="backslashreplace")
    try:
        app(prog_name="hotloop")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hotloop {installed_version() or '(source tree)'}")
        raise typer.Exit(OK)


@app.callback(
    invoke_without_command=True,
    epilog="Exit codes: 0 all well, 1 a problem, 2 wrong usage, 130 interrupted.",
)
def _hotloop(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Look at training runs, watch and stop them, take their data out, check the machine.

    A run is a folder that training writes to, such as runs/gpt. Every command that reads one also
    works while it is still being written, and none of them slows training down.

    \b
    Examples:
      hotloop demo                      train a small model on this machine
      hotloop tail gpt --follow         watch the run in runs/gpt
      hotloop stop gpt                  end it after the step it is at
      hotloop doctor                    find out why something does not work
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _command in (demo, status, tail, stop, save, export, report, sync, sinks, doctor, consolidate):
    app.command()(_command)
