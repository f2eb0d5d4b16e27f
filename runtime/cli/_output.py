"""Where commands write: text and tables to the terminal, whole files in one piece.

Everything that comes out of a journal passes `printable` first: a run's text is data, and must
not be able to move the cursor of whoever looks at it.
"""

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import orjson
from pydantic import BaseModel
from rich.console import Console, RenderableType

from runtime.cli._exit import UsageError


def printable(text: str) -> str:
    r"""Escapes what a terminal would act upon: a newline becomes `\n`, an escape `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def show(*renderables: RenderableType) -> None:
    """Prints with colours where standard output is a terminal, and plainly elsewhere.

    Rendered before it is written: rich answers a closed pipe with an exit code of its own.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    sys.stdout.write(capture.get())


def show_json(value: object) -> None:
    """Prints dataclasses and models as indented JSON."""
    encoded = orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2)
    sys.stdout.write(encoded.decode() + "\n")


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON")


@contextlib.contextmanager
def byte_output(out: Path | None) -> Generator[BinaryIO, None, None]:
    """Standard output, or a file that appears under its name only when it is complete.

    Raises:
        UsageError: The file cannot be created there.
    """
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = out.with_name(f".{out.name}.partial")
    try:
        file = partial.open("wb")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from error
    try:
        with file:
            yield file
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
