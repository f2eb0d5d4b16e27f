"""How many epochs and optimizer steps a training has, as a pure function of arguments and data."""

import math
import sys
from dataclasses import dataclass

from runtime._arguments import TrainingArguments


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The counts of a training.

    Attributes:
        max_steps: Optimizer steps in all.
        epochs: Passes over the data that are begun; `sys.maxsize` for data without a length.
        steps_per_epoch: Optimizer steps of one pass, the last one with fewer batches included.
        batches_per_epoch: Micro-batches by which the fraction of an epoch is counted.
        samples: Samples trained on in all, as far as they can be told beforehand.
    """

    max_steps: int
    epochs: int
    steps_per_epoch: int
    batches_per_epoch: int
    samples: float


def plan_training(
    args: TrainingArguments, *, batches: int | None, samples: int | None, batch_size: int
) -> TrainingPlan:
    """Count.

    Args:
        args: `max_steps` counts more than `num_train_epochs`; negative means not given.
        batches: Micro-batches of one pass; None if the data has no length.
        samples: Samples of one pass, if known.
        batch_size: Samples in a micro-batch, those of all processes together.

    Raises:
        ValueError: Neither the data nor the arguments say when to end.
    """
    parts = args.gradient_accumulation_steps
    if batches is None or (batches == 0 and args.max_steps > 0):
        if args.max_steps < 0:
            raise ValueError(
                f"max_steps={args.max_steps} does not say when to end, and the training data has "
                "no length to count epochs by; set max_steps to the optimizer steps to take"
            )
        return TrainingPlan(
            max_steps=args.max_steps,
            epochs=sys.maxsize,
            steps_per_epoch=args.max_steps,
            batches_per_epoch=max(args.max_steps * parts, 1),
            samples=args.max_steps * parts * batch_size,
        )
    per_epoch = max(math.ceil(batches / parts), 1)
    if args.max_steps >= 0:
        return TrainingPlan(
            max_steps=args.max_steps,
            epochs=math.ceil(args.max_steps / per_epoch),
            steps_per_epoch=per_epoch,
            batches_per_epoch=batches,
            samples=args.max_steps * parts * batch_size,
        )
    return TrainingPlan(
        max_steps=math.ceil(args.num_train_epochs * per_epoch),
        epochs=math.ceil(args.num_train_epochs),
        steps_per_epoch=per_epoch,
        batches_per_epoch=batches,
        samples=(samples or batches * batch_size) * args.num_train_epochs,
    )
