"""Keeps the libraries below quiet and discreet about requests that a sink makes.

At DEBUG, httpcore writes the head of each answer, with cookies and signed addresses to be led to,
and the password of a SOCKS proxy. Of requests made inside `discreet` its log only names the steps.

At INFO, httpx writes a line for each request, one a second for each sink, which would flood the
terminal of whoever trains with `logging.basicConfig(level="INFO")`. Of requests made inside
`discreet` these lines are DEBUG ones: there for who asks for them.

Other users of both in the process find everything in their logs as before.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_TELLING: Final = ("httpcore.http11", "httpcore.socks")
"""Loggers whose records quote what went over the wire."""
_CHATTY: Final = "httpx"
"""The logger with a line for each request."""

_discreet: ContextVar[bool] = ContextVar("_discreet", default=False)


@contextmanager
def discreet() -> Generator[None]:
    """Whatever this task does inside is logged without its data, and at DEBUG alone."""
    # A filter that is there already is not added again.
    for name in _TELLING:
        logging.getLogger(name).addFilter(_without_data)
    logging.getLogger(_CHATTY).addFilter(_for_who_debugs)
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


def _for_who_debugs(record: logging.LogRecord) -> bool:
    if _discreet.get() and record.levelno == logging.INFO:
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
    return True
