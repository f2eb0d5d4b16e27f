"""Lets processes write into one checkpoint's folder: its name goes out, records come back.

Used on the threads that write checkpoints alone; what is said here goes through the store that the
processes share.
"""

import itertools
import json
from collections.abc import Mapping
from threading import Event
from typing import Final, cast

from pydantic import TypeAdapter

from runtime._checkpoint_manifest import FileRecord
from runtime._rank_store import Store, wait_for_key

_RECORDS: Final = TypeAdapter(dict[str, FileRecord])


class ShardError(OSError):
    """A process could not write its part, so the checkpoint would not be whole.

    Attributes:
        rank: Which one.
    """

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"rank {rank} could not write its part: {why}")
        self.rank = rank


class RankShards:
    """Gives each checkpoint the meeting of its writers.

    Args:
        store: A connection that nobody else uses at the same time, with keys that nobody else has.
        rank: Which process this is.
        size: How many there are.
        patience: Seconds to wait for each.
        given_up: Set when nobody is to be waited for any more.
    """

    def __init__(
        self, store: Store, rank: int, size: int, *, patience: float, given_up: Event
    ) -> None:
        self._store = store
        self.rank = rank
        self.size = size
        self._patience = patience
        self._given_up = given_up
        self._saves = itertools.count()  # alike in all processes, which save at the same steps

    def turn(self) -> "ShardTurn":
        """Plan the meeting at one save; every process calls it, on the training thread."""
        self._given_up.clear()
        return ShardTurn(self, next(self._saves))

    def tell(self, key: str, message: Mapping[str, object]) -> None:
        """Say something to whoever waits for it."""
        self._store.set(key, json.dumps(message).encode())

    def told(self, key: str, rank: int, what: str) -> dict[str, object]:
        """Wait for what a process says.

        Raises:
            ShardError: It says that it failed.
            RankStateError: It says nothing.
        """
        wait_for_key(self._store, key, rank, what, patience=self._patience, given_up=self._given_up)
        message = cast("dict[str, object]", json.loads(self._store.get(key)))
        if "error" in message:
            raise ShardError(rank, str(message["error"]))
        return message

    def read_by_all(self, key: str, readers: int) -> None:
        """Forget what was said once so many have read it."""
        if self._store.add(f"{key}/read", 1) == readers:
            self._store.delete_key(key)
            self._store.delete_key(f"{key}/read")


class ShardTurn:
    """The meeting at one checkpoint.

    Args:
        shards: The processes.
        number: Of the checkpoint, alike in all of them.
    """

    def __init__(self, shards: RankShards, number: int) -> None:
        self._shards = shards
        self._key = f"shards-{number}"
        self._announced = False

    def announce(self, folder: str) -> None:
        """Tell the others where to write; for the first process."""
        self._announced = True
        self._shards.tell(self._key, {"folder": folder})

    def folder(self) -> str:
        """Wait for where to write; for all but the first process.

        Raises:
            ShardError: The first process has failed.
            RankStateError: It says nothing.
        """
        try:
            found = self._shards.told(self._key, 0, "where to write")
        finally:
            self._shards.read_by_all(self._key, self._shards.size - 1)
        return str(found["folder"])

    def hand_over(self, files: Mapping[str, FileRecord]) -> None:
        """Tell the first process what was written; for all others."""
        self._announced = True
        records = {name: each.model_dump() for name, each in files.items()}
        self._shards.tell(self._own(self._shards.rank), {"files": records})

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that nothing is to come, unless it was told already."""
        if self._announced:
            return
        first = not self._shards.rank
        self._shards.tell(
            self._key if first else self._own(self._shards.rank),
            {"error": f"{type(error).__name__}: {error}"},
        )

    def collect(self) -> dict[str, FileRecord]:
        """Wait for what all others have written; for the first process.

        Raises:
            ShardError: One of them has failed.
            RankStateError: One of them says nothing.
        """
        found: dict[str, FileRecord] = {}
        for rank in range(1, self._shards.size):
            key = self._own(rank)
            message = self._shards.told(key, rank, "its part of the checkpoint")
            self._shards.read_by_all(key, 1)
            found |= _RECORDS.validate_python(message["files"])
        return found

    def _own(self, rank: int) -> str:
        return f"{self._key}-{rank}"
