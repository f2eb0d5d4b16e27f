"""Where a training stands and what is asked of it: `TrainerState`, `TrainerControl`.

Both have upstream's fields, and the state is written as upstream writes it, so that either
trainer goes on from the other's checkpoint.
"""

import copy
import json
import logging
import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias, cast

from pydantic import JsonValue

from bus import JsonObject

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments

log = logging.getLogger("runtime")

TRAINER_STATE_NAME: Final = "trainer_state.json"
"""The state's file in a checkpoint."""

CallbackState: TypeAlias = dict[str, JsonObject]
"""What a callback remembers: its constructor's `args`, and `attributes` to set afterwards."""


class ExportableState:
    """Something whose memory goes into checkpoints; mix it into a callback of yours."""

    def state(self) -> CallbackState:
        """What to remember, as JSON data: `{"args": {...}, "attributes": {...}}`."""
        raise NotImplementedError(
            f"{type(self).__qualname__} is an ExportableState without state(); return "
            '{"args": constructor arguments, "attributes": what changes while it works}'
        )

    @classmethod
    def from_state(cls, state: CallbackState) -> Self:
        """A new one that remembers what `state` returned."""
        made = cls(**state["args"])
        for name, value in state["attributes"].items():
            setattr(made, name, value)
        return made


@dataclass
class TrainerControl(ExportableState):
    """What callbacks ask of the loop; they set the flags, the loop obeys.

    Attributes:
        should_training_stop: End training. Cleared when a training begins.
        should_epoch_stop: End this epoch. Cleared when an epoch begins.
        should_save: Save a checkpoint. Cleared when a step begins, and by saving.
        should_evaluate: Evaluate. Cleared when a step begins, and by evaluating.
        should_log: Log the training metrics. Cleared when a step begins, and by logging.
    """

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False

    def state(self) -> CallbackState:
        """The five flags."""
        return {"args": asdict(self), "attributes": {}}


@dataclass
class TrainerState:
    """Where a training stands. A step is an optimizer step, whatever it accumulates.

    Attributes:
        epoch: Passes over the data so far, the part of the current one included; it moves at the
            end of a step.
        global_step: Steps done.
        max_steps: Steps planned.
        logging_steps: Steps between two logs, where the strategy counts steps.
        eval_steps: Steps between two evaluations, likewise.
        save_steps: Steps between two checkpoints, likewise.
        train_batch_size: Samples in a micro-batch of this process.
        num_train_epochs: Passes planned, rounded up.
        num_input_tokens_seen: Tokens trained on, if they are counted.
        total_flos: Floating-point operations so far.
        log_history: Everything logged, each entry with its `step`.
        best_metric: The best value of `metric_for_best_model` so far.
        best_global_step: The step it was reached at.
        best_model_checkpoint: The checkpoint of that step, once it is saved.
        is_local_process_zero: Whether this is the first process of its machine.
        is_world_process_zero: Whether this is the first process of all.
        is_hyper_param_search: Upstream's; never true here.
        trial_name: Upstream's; never set here.
        trial_params: Upstream's; never set here.
        stateful_callbacks: What callbacks remember, by class name; see `export_states`.
    """

    epoch: float = 0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: float = 500
    eval_steps: float = 500
    save_steps: float = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, str | float | int | bool] | None = None
    stateful_callbacks: dict[str, CallbackState | list[CallbackState]] = field(
        default_factory=dict[str, CallbackState | list[CallbackState]]
    )

    def compute_steps(self, args: "TrainingArguments", max_steps: int) -> None:
        """Take over the arguments' intervals; a share (below 1) becomes steps of `max_steps`.

        On a resumed state the arguments win too, and one notice names what differs, the batch
        size included; so call it before that is overwritten.
        """
        differences: list[str] = []
        for kind in ("logging", "eval", "save"):
            asked: float | None = getattr(args, f"{kind}_steps")
            if asked is None:
                continue
            name, steps = f"{kind}_steps", math.ceil(max_steps * asked) if asked < 1 else asked
            if getattr(args, f"{kind}_strategy") == "steps" and steps != getattr(self, name):
                differences.append(f"{name}={steps} (was {getattr(self, name)})")
            setattr(self, name, steps)
        if self.train_batch_size not in (None, args.train_batch_size):
            differences.append(
                f"train_batch_size={args.train_batch_size} (was {self.train_batch_size})"
            )
        if differences and self.global_step > 0:
            log.warning("resuming with other arguments than before: %s", ", ".join(differences))

    def snapshot(self) -> Self:
        """A copy that later steps leave alone; reads nothing from a device."""
        twin = copy.copy(self)
        twin.log_history = list(self.log_history)
        return twin

    def to_json(self) -> str:
        """The text of `trainer_state.json`; numbers that are still on a device are waited for.

        Raises:
            TypeError: Something in it is neither a number nor other JSON data.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps(values, indent=2, sort_keys=True, default=_number) + "\n"

    def save_to_json(self, json_path: str | os.PathLike[str]) -> None:
        """Write the state to a file."""
        Path(json_path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load_from_json(cls, json_path: str | os.PathLike[str]) -> Self:
        """Read a state that this trainer or upstream's has written.

        What it lacks keeps its default; what no version of ours knows is named in one notice and
        left out.

        Raises:
            ValueError: The file is damaged.
        """
        stored = _read(json_path)
        names = {each.name for each in fields(cls)}
        unknown = sorted(stored.keys() - names)
        if unknown:
            log.warning("%s has fields that are not ours: %s", json_path, ", ".join(unknown))
        for name, (kinds, meant) in _KINDS.items():
            if name in stored and not isinstance(stored[name], kinds):
                raise ValueError(
                    f"{json_path} is damaged: {name} is {stored[name]!r:.80}, not {meant}; "
                    "resume from another checkpoint"
                )
        return cls(**{name: stored[name] for name in stored if name in names})  # type: ignore[arg-type]  # as seen # pyright: ignore[reportArgumentType]


_KINDS: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "epoch": ((int, float), "a number"),
    "global_step": (int, "an integer"),
    "max_steps": (int, "an integer"),
    "logging_steps": ((int, float), "a number"),
    "eval_steps": ((int, float), "a number"),
    "save_steps": ((int, float), "a number"),
    "num_train_epochs": (int, "an integer"),
    "num_input_tokens_seen": (int, "an integer"),
    "total_flos": ((int, float), "a number"),
    "log_history": (list, "a list"),
    "best_metric": ((int, float, type(None)), "a number"),
    "best_global_step": ((int, type(None)), "an integer"),
    "best_model_checkpoint": ((str, type(None)), "a path"),
    "stateful_callbacks": (dict, "an object"),
}


def _read(path: str | os.PathLike[str]) -> dict[str, JsonValue]:
    try:
        stored: object = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; resume from another checkpoint") from error
    if not isinstance(stored, dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not the caller
            f"{path} is damaged: it holds {stored!r:.80}, not an object; "
            "resume from another checkpoint"
        )
    return cast("dict[str, JsonValue]", stored)


class _Scalar(Protocol):
    """A numpy scalar, or a tensor with one element."""

    def item(self) -> object: ...


def _number(value: object) -> object:
    """The plain number in a numpy scalar or a tensor with one element, for `json`."""
    try:
        return cast("_Scalar", value).item()
    except (AttributeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{value!r:.80}, of {type(value).__qualname__}, cannot be written to "
            f"{TRAINER_STATE_NAME}; log plain numbers or text"
        ) from error
