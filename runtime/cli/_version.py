"""Which version of the distribution this is."""

from importlib import metadata
from typing import Final

DISTRIBUTION: Final = "hotloop"


def installed_version() -> str | None:
    """The version of the installed distribution, None when run from a source tree."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
