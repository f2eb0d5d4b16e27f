"""Uploads in parts, which the next try goes on with."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from bus import DeliveryError, UnavailableError


class UnderWay(Protocol):
    """An upload in parts."""

    @property
    def tags(self) -> Sequence[str]:
        """What storage calls the parts that are there."""
        ...


Key = TypeVar("Key")
AnyUpload = TypeVar("AnyUpload", bound=UnderWay)


@contextmanager
def gone_on_with(uploads: dict[Key, AnyUpload], key: Key, name: str) -> Generator[AnyUpload]:
    """An upload while its parts are sent; kept only after a failure that passes.

    Args:
        uploads: Those that are under way; loses this one when it is there, or refused.
        key: Which one.
        name: What the file is called.

    Raises:
        UnavailableError: Storage cannot be reached, or refuses what an earlier try began.
        DeliveryError: It refuses what this one began.
    """
    under_way = uploads[key]
    known = len(under_way.tags)
    try:
        yield under_way
    except UnavailableError:
        raise
    except DeliveryError as error:
        del uploads[key]
        if known:  # it may only be too old
            raise UnavailableError(f"{name} begins again: {error}") from error
        raise
    del uploads[key]
