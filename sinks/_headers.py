"""Headers of a request: who asks, and whether the values can be sent at all."""

import functools
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Final

from bus import MisconfiguredError

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(
    r"(?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
)


@functools.cache
def user_agent() -> str:
    """`hotloop/<version>`."""
    try:
        return f"hotloop/{metadata.version('hotloop')}"
    except metadata.PackageNotFoundError:
        return "hotloop/0"


def checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, if each can be sent (RFC 9110 section 5).

    Raises:
        MisconfiguredError: One cannot, as a key with a line break at its end.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise MisconfiguredError(
                f"the header {name[:50]!r} holds what no header may hold",
                fix="look for a line break or a space at the end of a credential",
            )
    return headers
