"""What the ranks of a run need to agree: a few keys that all of them reach."""

from typing import Protocol


class RankStore(Protocol):
    """What all ranks of a run reach and nobody else: a few keys with compare-and-set.

    Its methods raise `OSError` where the store does not answer, and `ConnectionError` where it is
    gone.
    """

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None if it has none; never waits for one."""
        ...

    def set(self, key: str, value: bytes) -> None:
        """Give a key a value."""
        ...

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """Replace what a key is expected to hold (b"" for nothing); return what it holds now."""
        ...
