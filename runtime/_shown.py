"""How a run may be shown, and who shows one in this process, so that nobody else does."""

import threading
from typing import Final, Literal, TypeAlias

Looks: TypeAlias = Literal["panel", "lines", "notebook", "tqdm"]
ConsoleStyle: TypeAlias = Literal["auto", "panel", "lines", "notebook", "tqdm"]

TERMINAL: Final = threading.Lock()
"""Held by whoever draws on the terminal; acquired without waiting, released by any thread."""

_shown: Final[set[object]] = set()


def begin_showing(console: object) -> None:
    """From here on a console shows a run."""
    _shown.add(console)


def end_showing(console: object) -> None:
    """It shows it no longer; once is enough."""
    _shown.discard(console)


def is_shown() -> bool:
    """Whether a console shows a run, so that callbacks need not."""
    return bool(_shown)
