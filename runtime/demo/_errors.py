"""What can keep the demo from starting.

DemoError
├── CorpusMissingError     this Python came without the text to learn
├── DeviceUnusableError    torch cannot compute there
└── NothingToResumeError   there is no run to go on with, or nothing left to do in it
"""

from pathlib import Path


class DemoError(Exception):
    """The demo cannot start; the message says what to do about it."""


class CorpusMissingError(DemoError):
    """This Python was installed without `pydoc_data.topics`, the demo's text."""

    def __init__(self) -> None:
        super().__init__(
            "this Python has no pydoc_data.topics, the text that the demo learns; "
            "install the complete standard library"
        )


class DeviceUnusableError(DemoError):
    """The device that was asked for does not exist here.

    Attributes:
        device: Its name.
    """

    def __init__(self, device: str, why: str) -> None:
        super().__init__(f"cannot train on {device!r}: {why}")
        self.device = device


class NothingToResumeError(DemoError):
    """There is nothing that `resume` could go on with.

    Attributes:
        place: The folder that was looked at.
    """

    def __init__(self, place: Path, why: str) -> None:
        super().__init__(f"nothing to resume in {place}: {why}")
        self.place = place
