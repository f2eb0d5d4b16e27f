"""Every error that saving and loading checkpoints raises.

```
CheckpointError (a ValueError, as Transformers raises)
├── CheckpointNotFoundError  there is no checkpoint where one was asked for
├── DamagedCheckpointError   a file is missing, cut off, or not what was written
├── UnsafeCheckpointError    a file would run code when it is loaded; it was not
├── MismatchedWeightsError   the weights belong to another model
├── MismatchedStateError     the optimizer's or the schedule's state belongs to another one
├── UnsavableStateError      a value could not be loaded again without running code
└── CheckpointDelayError     the disk has not finished the checkpoint before this one
```

Each of them names the file or the value; what the disk says is an `OSError` and stays one.
"""

from collections.abc import Sequence
from pathlib import Path


class CheckpointError(ValueError):
    """Anything that is wrong with a checkpoint."""


class CheckpointNotFoundError(CheckpointError):
    """A folder holds no checkpoint.

    Attributes:
        path: Where one was looked for.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"there is no checkpoint at {path}: {why}")
        self.path = path


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written.

    Attributes:
        path: The checkpoint.
        file: The file in it that is wrong.
    """

    def __init__(self, path: Path, file: str, why: str) -> None:
        super().__init__(
            f"{path} is damaged: {file} {why}; resume from an earlier checkpoint, or copy this "
            "one again from where it came"
        )
        self.path = path
        self.file = file


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint asks for more than tensors and plain data.

    Attributes:
        path: The checkpoint.
        file: The file in it that does.
    """

    def __init__(self, path: Path, file: str, why: str) -> None:
        super().__init__(
            f"{path} is not loaded: {file} {why}; nothing of it was executed. If you trust who "
            "wrote it, load it with torch yourself and save it as plain tensors"
        )
        self.path = path
        self.file = file


class MismatchedWeightsError(CheckpointError):
    """The weights of a checkpoint are not those of the model.

    Attributes:
        missing: Names the model has and the checkpoint lacks.
        unexpected: Names the checkpoint has and the model lacks.
        differing: Names whose shapes differ, with both shapes.
    """

    def __init__(
        self, missing: Sequence[str], unexpected: Sequence[str], differing: Sequence[str]
    ) -> None:
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
        told = "; ".join(f"{what}: {_some(names)}" for what, names in parts if names)
        super().__init__(f"the checkpoint's weights belong to another model ({told})")
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.differing = tuple(differing)


class MismatchedStateError(CheckpointError):
    """What a checkpoint has of an optimizer or a schedule was made by another one.

    Attributes:
        path: The checkpoint.
        file: The file in it.
    """

    def __init__(self, path: Path, file: str, owner: str, why: str) -> None:
        super().__init__(
            f"{file} of {path} does not fit the {owner} of this training: {why}; resume with the "
            "one it was made with, or load the weights into the model yourself and train without "
            "resuming"
        )
        self.path = path
        self.file = file


class UnsavableStateError(CheckpointError):
    """A value in the state has no form that loads without running code.

    Attributes:
        name: Where the value stands, such as `optimizer.state.0.history`.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} cannot be saved in a checkpoint: {why}; keep tensors, numbers, texts, lists "
            "and dictionaries in the state"
        )
        self.name = name


class CheckpointDelayError(CheckpointError):
    """A checkpoint was given up because the one before it is still being written.

    Attributes:
        seconds: How long was waited.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(
            f"{path} was not saved: the disk has not finished the checkpoint before it within "
            f"{seconds:.0f} s; save less often or to a faster disk"
        )
        self.seconds = seconds


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
