"""What the DVCLive sink remembers between batches and processes, and what it calls things there."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final, cast

from pydantic import Field, JsonValue

from bus import ArtifactReady, CheckpointSaved, Outcome
from sinks._scalars import Place

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST: Final = 60
"""Letters of a file's name, of four bytes at most each."""


class Known(Place):
    """Everything that is remembered.

    Attributes:
        folder: DVCLive's.
        sizes: The bytes of each table when the last batch was acknowledged.
        params: The run's settings so far.
        experiment: The name that DVC gave it.
        checkpoint: The folder of the checkpoint that was announced last.
        best: That of the best one.
        model: What is kept at the end.
        closed: The outcome that was told.
    """

    folder: str
    sizes: dict[str, int] = Field(default_factory=dict[str, int])
    params: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    experiment: str = ""
    checkpoint: str = ""
    best: str = ""
    model: str = ""
    closed: Outcome | None = None

    @property
    def loads_best(self) -> bool:
        """Whether the training ends with the weights of its best checkpoint."""
        args = self.params.get("args", self.params)
        return isinstance(args, dict) and args.get("load_best_model_at_end") is True

    def remember(self, event: CheckpointSaved | ArtifactReady) -> None:
        """Choose what is kept at the end: a model, or the last checkpoint, or the best."""
        if isinstance(event, CheckpointSaved) or event.kind == "model":
            self.model = event.path
        if self.loads_best and self.best:
            self.model = self.best


def renamed(key: str) -> str:
    """What DVCLive calls a metric of Transformers' trainer (read in its version 3.49)."""
    return key.replace("train_", "train/").replace("eval_", "eval/")


def logged_name(key: str, summary: Mapping[str, object]) -> str:
    """A metric's name as DVCLive can file it.

    A name is a path below its folder, and in the summary each of its parts an object. What leads
    out of the folder is left out of the path; a part that is a number already, and a number that is
    an object already, are told apart by a full stop.
    """
    whole = PurePosixPath(_CONTROLS.sub("_", key)).parts
    parts = [part[:_LONGEST] for part in whole if part not in ("/", "//", "..")] or ["metric"]
    for index, part in enumerate(parts[:-1]):
        inner = summary.get(part, {})
        if not isinstance(inner, dict):
            return "/".join([*parts[:index], ".".join(parts[index:])])
        summary = cast("dict[str, object]", inner)
    name = "/".join(parts)
    return f"{name}.value" if isinstance(summary.get(parts[-1]), dict) else name
