"""Lets log lines share the terminal with a live display.

A `logging.StreamHandler` keeps the stream it was made with, which a live display does not see: its
lines would land in the middle of the bar. While the display is up they go through its console.
"""

import logging
import sys
from typing import TextIO, cast

from rich.console import Console
from rich.file_proxy import FileProxy


class LogsAbove:
    """Points every handler that writes to standard output or error at a console, until `restore`.

    Handlers of files and of other streams are left alone.
    """

    def __init__(self, console: Console) -> None:
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO, TextIO]] = []
        standard = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        for handler in _stream_handlers():
            if handler.stream in standard:
                proxy = cast("TextIO", FileProxy(console, handler.stream))
                self._moved.append((handler, handler.stream, proxy))
                handler.setStream(proxy)

    def restore(self) -> None:
        """Gives every handler its stream back, unless somebody else has changed it meanwhile."""
        for handler, stream, proxy in self._moved:
            if handler.stream is proxy:
                handler.setStream(stream)
        self._moved.clear()


def _stream_handlers() -> list[logging.StreamHandler[TextIO]]:
    """Every stream handler of every logger, each once."""
    known = (logging.root, *logging.root.manager.loggerDict.values())
    loggers = [each for each in known if isinstance(each, logging.Logger)]  # others are mere names
    handlers = {handler for logger in loggers for handler in logger.handlers}
    return [
        cast("logging.StreamHandler[TextIO]", handler)
        for handler in handlers
        if isinstance(handler, logging.StreamHandler)
    ]
