"""The store through which processes tell each other what a checkpoint needs, and waiting for it."""

import threading
import time
from typing import Final, Protocol

_PAUSE: Final = 0.01
"""Seconds between two looks for a state; only the writer thread looks."""


class RankStateError(OSError):
    """A process has not said what it was to say, so the checkpoint would not be whole.

    Attributes:
        rank: Which one.
    """

    def __init__(self, rank: int, seconds: float, what: str) -> None:
        super().__init__(
            f"rank {rank} has not handed over {what} within {seconds:.1f} s; its own log says why, "
            "if it is still there"
        )
        self.rank = rank


class Store(Protocol):
    """What is used of a store of torch, such as `torch.distributed.TCPStore`."""

    def set(self, key: str, value: bytes, /) -> object: ...

    def get(self, key: str, /) -> bytes: ...

    def check(self, keys: list[str], /) -> bool: ...

    def add(self, key: str, amount: int, /) -> int: ...

    def delete_key(self, key: str, /) -> bool: ...


def wait_for_key(
    store: Store, key: str, rank: int, what: str, *, patience: float, given_up: threading.Event
) -> None:
    """Wait until a process has said something; only a thread that writes checkpoints may.

    Raises:
        RankStateError: It has not for so many seconds, or nobody is to be waited for any more.
    """
    began = time.monotonic()
    while not store.check([key]):
        waited = time.monotonic() - began
        if waited > patience or given_up.wait(_PAUSE):
            raise RankStateError(rank, waited, what)
