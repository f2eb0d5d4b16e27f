"""What a callback asks for on one rank becomes a request, so that all ranks do it or none.

A flag that one rank's loop obeys and another's does not leaves the ranks in different collectives,
where they wait for each other for ever.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

from bus import Request
from runtime._state import TrainerControl

log = logging.getLogger("runtime")


Flag: TypeAlias = Literal[
    "should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log"
]


class FlagRaised(Request):
    """A callback has raised a flag of `TrainerControl` on some rank.

    Attributes:
        flag: Which.
        callback: Its class.
        step: Where the rank was. Ranks that do the same at the same step ask for one thing.
    """

    type: Literal["flag_raised"] = "flag_raised"
    flag: Flag
    callback: str
    step: int


class AgreedFlags:
    """Turns what callbacks do to flags into requests, and requests into flags.

    Args:
        ask: Takes the requests, which come back on every rank.
    """

    def __init__(self, ask: Callable[[Request], object]) -> None:
        self._ask = ask
        self._obeyed: set[tuple[str, str, int]] = set()
        self._told: set[str] = set()

    def take(
        self, before: Mapping[str, object], control: TrainerControl, callback: object, step: int
    ) -> None:
        """Put the flags back to what they were, and ask for those that the callback raised.

        Args:
            before: The flags as they were.
            control: The flags as the callback left them.
            callback: Who has been called.
            step: Where this rank is.
        """
        name = type(callback).__name__
        for flag in get_args(Flag):
            after = bool(getattr(control, flag))
            if after == before[flag]:
                continue
            setattr(control, flag, before[flag])
            self._tell(name, flag, raised=after)
            if after:
                self._ask(FlagRaised.model_validate({"flag": flag, "callback": name, "step": step}))

    def obey(self, request: FlagRaised, control: TrainerControl) -> None:
        """Raise the flag that was asked for, unless another rank had asked for the same before."""
        key = (request.callback, request.flag, request.step)
        if key not in self._obeyed:
            self._obeyed.add(key)
            setattr(control, request.flag, True)

    def _tell(self, name: str, flag: str, *, raised: bool) -> None:
        if name in self._told:
            return
        self._told.add(name)
        effect = "takes effect some steps later" if raised else "cannot be taken back by one rank"
        log.warning(
            "%s has changed %s; in a job of many ranks that %s, because all ranks must do it at "
            "the same step. If it does the same on every rank, give it `rank_consistent = True`, "
            "and it is obeyed at once",
            name,
            flag,
            effect,
        )
