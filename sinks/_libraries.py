"""Loads the vendors' libraries that sinks are built on: in their threads, when they are opened."""

import importlib
from typing import Any

from bus import MisconfiguredError


def library(module: str, extra: str) -> Any:  # noqa: ANN401 - vendors' modules are untyped here
    """A module of a vendor's.

    Args:
        module: Its name.
        extra: What installs it with this package.

    Raises:
        MisconfiguredError: It is not there, or not as a whole.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MisconfiguredError(
            f"{module} cannot be imported: {error}", fix=f"pip install 'hotloop[{extra}]'"
        ) from error
