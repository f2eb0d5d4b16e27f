"""`TrainingArguments`, everything a trainer can be told, with upstream's names and defaults.

```
values as given ─► checked against the annotations (_argument_validation)
                ─► what follows from others filled in (_argument_derivations)
                ─► ranges and contradictions refused (_argument_checks)
```
"""

import json
import logging
import math
import os
from dataclasses import dataclass, fields
from typing import Final, Self, cast

import torch

from runtime._argument_checks import check
from runtime._argument_derivations import derive
from runtime._argument_forms import plain
from runtime._argument_names import refuse_unknown
from runtime._argument_setters import SettableFields
from runtime._argument_validation import validated
from runtime._world import World

_LEVELS: Final = {
    "detail": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_PATHS: Final = ("output_dir", "resume_from_checkpoint")


@dataclass
class TrainingArguments(SettableFields):
    """Everything a trainer can be told.

    A standard dataclass: an argument parser can be made from its fields, whose metadata explains
    each under "help". A subclass made with `@dataclass` may add fields, which are checked against
    their annotations as well; if it has a `__post_init__` of its own, that must call this one.

    `TrainingArguments(**args.to_dict())` equals `args`, through JSON too. A secret (`hub_token`,
    and any text field of a subclass whose name looks like one) is masked there and in `repr`, and
    a mask that comes back stands for the field's default.

    Raises:
        ValueError: A value is of the wrong type, out of range, or contradicts another.
        TypeError: There is no such argument; the message says what it is called now.
    """

    def __new__(cls, *args: object, **kwargs: object) -> Self:  # noqa: ARG004 - `__init__` reads them
        """Refuse names that are no arguments before `__init__` does, and say what to write."""
        refuse_unknown(cls, kwargs)
        return super().__new__(cls)

    def __init_subclass__(cls) -> None:
        """Keep the `repr` that masks secrets, which `@dataclass` would replace."""
        super().__init_subclass__()
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = TrainingArguments.__repr__  # type: ignore[method-assign]  # before use

    def __post_init__(self) -> None:
        """Check every field, a subclass's own included, and fill in what was left open."""
        for name in _PATHS:
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                setattr(self, name, os.fspath(cast("os.PathLike[str]", value)))
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        for name, value in validated(type(self), given).items():
            setattr(self, name, value)
        derive(self)
        self.check()

    def __repr__(self) -> str:
        told = (f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({', '.join(told)})"

    def check(self) -> None:
        """Look again whether the arguments fit together, after some have been changed.

        Raises:
            ValueError: They do not; the message names them, their values, and what to do.
        """
        check(self, self.device)

    def to_dict(self) -> dict[str, object]:
        """Every argument as plain data, secrets masked."""
        return {
            each.name: plain(each.name, getattr(self, each.name))
            for each in fields(self)
            if each.init
        }

    def to_json_string(self) -> str:
        """`to_dict` as JSON, from which `TrainingArguments(**json.loads(...))` makes equal ones."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_sanitized_dict(self) -> dict[str, bool | int | float | str]:
        """Every argument, and the batch sizes, as hyper-parameters: numbers, or else texts."""
        sizes = {"train_batch_size": self.train_batch_size, "eval_batch_size": self.eval_batch_size}
        return {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in {**self.to_dict(), **sizes}.items()
        }

    @property
    def device(self) -> torch.device:
        """Where this process trains: its accelerator if there is one, else the CPU."""
        accelerator = None if self.use_cpu else torch.accelerator.current_accelerator()
        if accelerator is None or not torch.accelerator.is_available():
            return torch.device("cpu")
        if accelerator.type == "mps":  # there is one, which has no number
            return accelerator
        return torch.device(accelerator.type, self.local_process_index)

    @property
    def n_gpu(self) -> int:
        """Accelerators that this process trains on: one or none."""
        return 0 if self.device.type == "cpu" else 1

    @property
    def train_batch_size(self) -> int:
        """Samples in a training batch of this process."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Samples in an evaluation batch of this process."""
        return self.per_device_eval_batch_size

    @property
    def world_size(self) -> int:
        """How many processes train together, as their launcher says."""
        return World.here().size

    @property
    def process_index(self) -> int:
        """The number of this process among all."""
        return World.here().rank

    @property
    def local_process_index(self) -> int:
        """The number of this process among those of its machine."""
        return World.here().local_rank

    @property
    def should_log(self) -> bool:
        """Whether this process logs: the first, or the first of each machine."""
        return self._first(self.log_on_each_node)

    @property
    def should_save(self) -> bool:
        """Whether this process writes checkpoints: the first, or the first of each machine."""
        return self._first(self.save_on_each_node)

    def get_process_log_level(self) -> int:
        """The log level for this process, as a number of `logging`; the present one if passive."""
        level = self.log_level if self.should_log else self.log_level_replica
        return _LEVELS.get(level, logging.getLogger("runtime").getEffectiveLevel())

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """How many optimizer steps the warmup takes.

        Args:
            num_training_steps: All optimizer steps, of which `warmup_steps` may be a share.
        """
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return math.ceil(num_training_steps * self.warmup_steps)

    def _first(self, of_each_node: bool) -> bool:
        return (self.local_process_index if of_each_node else self.process_index) == 0
