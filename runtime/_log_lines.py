"""`LogLines` turns logged entries into lines for people, without waiting for the device."""

from collections import deque
from collections.abc import Callable

from runtime._logs import Logs


class LogLines:
    """Shows entries in their order, each once its numbers are there.

    Args:
        write: Shows one line.
        longest: Characters beyond which a text among the values is left out.
    """

    def __init__(self, write: Callable[[str], None], *, longest: int | None = None) -> None:
        self._write = write
        self._longest = longest
        self._waiting: deque[Logs] = deque()

    def add(self, logs: dict[str, float]) -> None:
        """Show an entry now, or in its turn."""
        self._waiting.append(logs if isinstance(logs, Logs) else Logs(logs))
        self.show_ready()

    def show_ready(self) -> None:
        """Show what has arrived."""
        while self._waiting and self._waiting[0].ready():
            self._show_next()

    def show_last(self) -> None:
        """Show what has arrived and give up the rest."""
        try:
            self.show_ready()
        finally:  # the device may be what failed
            self._waiting.clear()

    def show_all(self) -> None:
        """Show everything, waiting for the device if need be."""
        while self._waiting:
            self._show_next()

    def _show_next(self) -> None:
        entry = self._waiting.popleft()
        shown = {
            name: _readable(value, self._longest)
            for name, value in entry.items()
            if name != "total_flos"
        }
        self._write(str(shown))


def _readable(value: object, longest: int | None) -> object:
    """A float in four significant digits; a text of bearable length."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and longest is not None and len(value) > longest:
        return f"<a text of {len(value)} characters, beyond max_str_len={longest}>"
    return value
