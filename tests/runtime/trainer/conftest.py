"""What the tests of the trainer share."""

from collections.abc import Iterator

import pytest

from bus.testing import ended_runs


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """The runs that a test leaves open end with it, and not with their threads at the exit."""
    with ended_runs():
        yield
