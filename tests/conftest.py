"""What all tests share."""

from collections.abc import Callable

import pytest

from tests.waiting import eventually


@pytest.fixture(name="eventually", scope="session")
def eventually_fixture() -> Callable[..., None]:
    """Waits until a condition holds, and fails when it does not in time."""
    return eventually
