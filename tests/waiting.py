"""The one way in which tests wait: look again and again, with a deadline."""

import time
from collections.abc import Callable

HANG = 30.0
"""Seconds after which what ends in a few, on any machine, counts as hung."""


def eventually(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {condition}"
        time.sleep(0.005)
