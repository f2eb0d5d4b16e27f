"""Keeps what is sent and answered out of httpcore's debug log.

At DEBUG, httpcore writes the head of each answer, with cookies and signed addresses to be led to,
and the password of a SOCKS proxy. Of requests made inside `discreet` its log only names the steps.
Other users of httpcore in the process find everything in it as before.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_TELLING: Final = ("httpcore.http11", "httpcore.socks")
"""Loggers whose records quote what went over the wire."""

_discreet: ContextVar[bool] = ContextVar("_discreet", default=False)


@contextmanager
def discreet() -> Generator[None]:
    """Whatever this task does inside is logged without its data."""
    for name in _TELLING:
        # A filter that is there already is not added again.
        logging.getLogger(name).addFilter(_without_data)
    token = _discreet.set(True)
    try:
        yield
    finally:
        _discreet.reset(token)


def _without_data(record: logging.LogRecord) -> bool:
    if _discreet.get():
        # As in "receive_response_headers.complete return_value=(...)".
        record.msg, record.args = record.getMessage().partition(" ")[0], None
    return True
