"""The part of `Run` that knows of other ranks: where they meet, and that they end alike."""

from collections.abc import Mapping
from dataclasses import replace

from bus import Bus, Preempt
from runtime._device import Snapshots
from runtime._ending import Ending
from runtime._metrics import error_text
from runtime._ranks import meet
from runtime._run_signals import Signalled


class Ranked(Signalled):
    """A run that all processes of a job have together."""

    def __init__(
        self, bus: Bus, *, snapshots: Mapping[str, Snapshots] | None, strict: bool
    ) -> None:
        self._ranks = meet()
        if self._ranks is not None:
            bus.agree(self._ranks.leases)
        super().__init__(bus, snapshots=snapshots, strict=strict)

    @property
    def rank(self) -> int:
        """The number of this process among those that train together, from 0."""
        return 0 if self._ranks is None else self._ranks.world.rank

    def gather(self, call: str, seconds: float) -> None:
        """Come together with the other ranks before a call that needs all of them.

        Returns at once where there are none.

        Args:
            call: What is called, for the others to compare and for the message.
            seconds: How long to wait for them.

        Raises:
            RanksError: They have not come in time, or to another call.
        """
        if self._ranks is not None:
            self._ranks.gather(call, seconds)

    def give_way(self, error: Exception, step: int) -> Preempt | None:
        """Have a preemption that was asked for end a training whose step has failed.

        Other ranks end at their next safe point, and by the same preemption.

        Args:
            error: What the step failed with.
            step: The last one that did not.

        Returns:
            The preemption; None if none was asked for before a rank failed.
        """
        request = self._bus.control.give_way(step)
        if request is not None and self._ranks is not None:
            self._ranks.fail(error_text(error))
        return request

    def _agreed(self, ending: Ending, seconds: float) -> Ending:
        """How it ends for all ranks: a failure has the words of the first rank that failed."""
        ranks = self._ranks
        if ranks is None:
            return ending
        if ending.outcome == "failed":
            mine = ending.error or "it says no more"
            first = ranks.fail(mine)
            if mine not in first:
                self.message(f"rank {self.rank}: {mine}", level="error")
            ending = replace(ending, error=first)
        ranks.leave(seconds / 3)
        return ending
