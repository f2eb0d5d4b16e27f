"""How a command ends: its exit code, its last words, an interruption, a reader that went away.

    CommandError            exit code 1: what was asked for did not work out
    └── UsageError          exit code 2: the command line asks for something that is not there

Commands raise these; `ends_cleanly` turns them into a message on standard error and an exit code,
so that nobody ever sees a traceback for a mistyped path, a Ctrl-C or a `| head`.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import ClassVar, Final, ParamSpec

import typer

OK: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

Parameters = ParamSpec("Parameters")


class CommandError(Exception):
    """A command could not do what it was asked; its text is shown to the user as it stands."""

    exit_code: ClassVar[int] = PROBLEM


class UsageError(CommandError):
    """The command line names something that does not exist or cannot be combined."""

    exit_code: ClassVar[int] = USAGE


def ends_cleanly(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Makes a command end with one of the documented exit codes instead of a traceback.

    A closed pipe (`hotloop tail gpt | head`) is a success: the reader has what it wanted.
    """

    @functools.wraps(command)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except CommandError as error:
            typer.echo(f"hotloop: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            discard_output()
            raise typer.Exit(OK) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(INTERRUPTED) from interrupt

    return guarded


def discard_output() -> None:
    """Points standard output at nothing, so that the flush at interpreter exit cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
