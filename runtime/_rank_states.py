"""Brings what each process keeps for itself into the checkpoint that one of them writes.

    every rank       │ capture at the save ─► its writer thread: bytes ─► the group's store
    whoever writes   │ its writer thread: waits for all ─► rng_state_<rank>.pth ─► manifest, rename

So a checkpoint is visible with the states of all or not at all, and no training thread waits for
another process. Disks need not be shared for it.
"""

import io
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from runtime._checkpoint_files import rng_file
from runtime._checkpoint_folder import EPOCH_START
from runtime._checkpoint_trees import copy_tree
from runtime._rank_shards import RankShards
from runtime._rank_store import Store, wait_for_key
from runtime._rng import RngState

OWN: Final = "own"
"""The entry of `rng_state_<rank>.pth` that holds what the loop keeps of that process alone."""


@dataclass(frozen=True, slots=True)
class RankState:
    """What a process keeps for itself.

    Attributes:
        rng: Where its generators stand.
        epoch_start: Where they stood when the epoch began.
        own: What its loop keeps: tensors and plain values.
    """

    rng: RngState
    epoch_start: RngState | None
    own: Mapping[str, object]

    def to_bytes(self) -> bytes:
        """The contents of its file; waits for tensors that are on a device."""
        tree = self.rng.to_dict()
        if self.epoch_start is not None:
            tree[EPOCH_START] = self.epoch_start.to_dict()
        tree[OWN] = copy_tree(OWN, dict(self.own), lambda _, tensor: tensor.detach().cpu())
        file = io.BytesIO()
        torch.save(tree, file)
        return file.getvalue()


class RankStates:
    """Hands states over, from all processes to those that write.

    Args:
        store: A connection that nobody else uses, with keys that nobody else has.
        rank: Whose state is given here.
        size: How many processes there are.
        writers: How many of them write.
        patience: Seconds to wait for each state.
    """

    def __init__(
        self, store: Store, rank: int, size: int, *, writers: int, patience: float
    ) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._writers = writers
        self._patience = patience
        self._saves = itertools.count()  # alike in all processes, which save at the same steps
        self._given_up = threading.Event()
        self.shards = RankShards(store, rank, size, patience=patience, given_up=self._given_up)

    def give_up(self) -> None:
        """Wait for nobody any more: training has failed, here and so everywhere."""
        self._given_up.set()

    def handing_over(self, state: RankState) -> "tuple[Callable[[], None], Callable[[Path], None]]":
        """Plan the hand-over at one save; every process calls it, on the training thread.

        Returns:
            What gives this process's state, and what writes those of all into a folder; both wait,
            and are for the thread that writes checkpoints. The first has to run before the second.
        """
        number = next(self._saves)
        self._given_up.clear()
        return lambda: self._give(number, state), lambda folder: self._write(number, folder)

    def _give(self, number: int, state: RankState) -> None:
        self._store.set(_key(number, self._rank), state.to_bytes())

    def _write(self, number: int, folder: Path) -> None:
        for rank in range(self._size):
            key = _key(number, rank)
            wait_for_key(
                self._store,
                key,
                rank,
                "its random number state",
                patience=self._patience,
                given_up=self._given_up,
            )
            state = self._store.get(key)
            if self._store.add(f"{key}/read", 1) == self._writers:
                self._store.delete_key(key)
                self._store.delete_key(f"{key}/read")
            (folder / rng_file(rank)).write_bytes(state)


def _key(number: int, rank: int) -> str:
    return f"state-{number}-{rank}"
