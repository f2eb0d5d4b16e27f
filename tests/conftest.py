"""What all tests share."""

import signal
from collections.abc import Callable

import pytest

from tests.interpreter import Interpreter, shared_interpreter
from tests.waiting import eventually


@pytest.fixture(name="eventually", scope="session")
def eventually_fixture() -> Callable[..., None]:
    """Waits until a condition holds, and fails when it does not in time."""
    return eventually


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Processes that tests start can be interrupted: a background job's would ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def interpreter() -> Interpreter:
    """Starts programs that need not load torch."""
    return shared_interpreter()
