"""Finds a batch for a process that has none left, where a step needs all processes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime._evaluation import Together


class StandIns:
    """The batches of one evaluation, as far as they may be repeated.

    Args:
        together: The processes, each of which calls `batch` equally often. The first round is
            never empty for all of them.
    """

    def __init__(self, together: "Together") -> None:
        self._together = together
        self._known: Any = None
        self._begun = False

    def batch(self, own: Any) -> Any:  # noqa: ANN401 - users' batches
        """This process's batch, or what to repeat if it is None: its last one, or another's."""
        if own is not None:
            self._known = own
        if not self._begun:
            self._begun = True
            if any(self._together.collected(own is None)):
                everybody = self._together.collected(own)
                self._known = next(each for each in [own, *everybody] if each is not None)
        return self._known
