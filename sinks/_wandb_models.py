"""Names, aliases and metadata of artifacts, as Transformers' callback gives them."""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue

from bus import ArtifactReady, CheckpointSaved
from sinks._values import compact
from sinks._wandb_state import Upload
from sinks._wandb_values import STEP

Numbers: TypeAlias = Mapping[str, JsonValue]

_ILLEGAL: Final = re.compile(r"[^\w.\-]")
_EPOCHS: Final = ("epoch", "train/epoch")


def model_of(event: CheckpointSaved | ArtifactReady, label: str, numbers: Numbers) -> Upload:
    """A checkpoint as a version of the run's model.

    Args:
        event: What is there.
        label: What the model is called behind `model-`.
        numbers: The run's last ones, which become metadata as far as they hold for it.
    """
    aliases: list[str] = []
    metadata = _numbers_at(event.step, numbers)
    if isinstance(event, ArtifactReady):
        aliases += event.aliases
        metadata |= event.metadata
    else:
        metadata |= event.metrics
    epoch = next((metadata[key] for key in _EPOCHS if key in metadata), None)
    if isinstance(epoch, (int, float)):
        aliases.append(f"epoch_{round(float(epoch), 2)}")
    if event.step is not None:
        aliases.append(f"checkpoint_global_step_{event.step}")
    return Upload(
        path=event.path,
        name=_legal_name(f"model-{label}"),
        kind="model",
        aliases=_legal(aliases),
        metadata=compact(metadata),
    )


def artifact_of(event: ArtifactReady) -> Upload:
    """A file or folder as a version of the artifact of its name."""
    return Upload(
        path=event.path,
        name=_legal_name(event.name),
        kind=_legal_name(event.kind),
        aliases=_legal(event.aliases),
        metadata=compact(event.metadata),
    )


def final(upload: Upload) -> Upload:
    """The last checkpoint as the model that training ended with."""
    return upload.model_copy(update={"aliases": (*upload.aliases, "final_model")})


def _numbers_at(step: int | None, numbers: Numbers) -> dict[str, JsonValue]:
    """What is known of a step; epochs grow with the steps.

    A checkpoint is announced when it is complete, and the training has gone on meanwhile.
    """
    latest = numbers.get(STEP)
    if step is None or not isinstance(latest, (int, float)) or latest in (step, 0):
        return dict(numbers)
    found: dict[str, JsonValue] = {STEP: step}
    for key in _EPOCHS:
        epoch = numbers.get(key)
        if isinstance(epoch, (int, float)):
            found[key] = epoch * step / latest
    return found


def _legal_name(name: str) -> str:
    return _ILLEGAL.sub("-", name)[:128] or "artifact"


def _legal(aliases: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Aliases that the server takes, each once, "latest" among them."""
    named = [re.sub(r"[/:]", "-", each)[:128] for each in ("latest", *aliases)]
    return tuple(dict.fromkeys(each for each in named if each))
