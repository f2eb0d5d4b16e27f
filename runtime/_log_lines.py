"""`LogLines` turns logged entries into lines for people, without waiting for the device."""

import time
from collections import deque
from collections.abc import Callable

from runtime._logs import Logs


class LogLines:
    """Shows entries in their order, each once its numbers are there.

    Args:
        write: Shows one line, or several with line feeds between them.
        longest: Characters beyond which a text among the values is left out.
        pause: Seconds between two writes by `show_ready`; what comes in between waits for the
            next, so that a screen is not redrawn more often than anybody can see.
    """

    def __init__(
        self, write: Callable[[str], None], *, longest: int | None = None, pause: float = 0.0
    ) -> None:
        self._write = write
        self._longest = longest
        self._pause = pause
        self._next_at = 0.0
        self._waiting: deque[dict[str, float]] = deque()

    def add(self, logs: dict[str, float]) -> None:
        """Show an entry now, or in its turn."""
        self._waiting.append(logs)
        self.show_ready()

    def show_ready(self) -> None:
        """Show what has arrived, unless something was shown just now."""
        if self._waiting and time.monotonic() >= self._next_at:
            self.show_arrived()

    def show_arrived(self) -> None:
        """Show what has arrived."""
        lines: list[str] = []
        while self._waiting and _is_here(self._waiting[0]):
            lines.append(self._next_line())
        if lines:
            self._show(lines)

    def show_last(self) -> None:
        """Show what has arrived and give up the rest."""
        try:
            self.show_arrived()
        finally:  # the device may be what failed
            self._waiting.clear()

    def show_all(self) -> None:
        """Show everything, waiting for the device if need be."""
        self.show_arrived()
        while self._waiting:
            self._show([self._next_line()])

    def _next_line(self) -> str:
        entry = self._waiting.popleft()
        shown = {
            name: _readable(value, self._longest)
            for name, value in entry.items()
            if name != "total_flos"
        }
        return str(shown)

    def _show(self, lines: list[str]) -> None:
        self._write("\n".join(lines))
        self._next_at = time.monotonic() + self._pause


def _is_here(entry: dict[str, float]) -> bool:
    return not isinstance(entry, Logs) or entry.ready()


def _readable(value: object, longest: int | None) -> object:
    """A float in four significant digits; a text of bearable length."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and longest is not None and len(value) > longest:
        return f"<a text of {len(value)} characters, beyond max_str_len={longest}>"
    return value
