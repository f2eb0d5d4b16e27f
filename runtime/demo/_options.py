"""What can be asked of the demo, and the numbers it trains by."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from runtime.demo._model import ModelShape


class Recipe(BaseModel):
    """Everything the trained weights depend on; noted beside the checkpoints for those who resume.

    Attributes:
        steps: Optimizer steps in all.
        seed: Of the weights, the order of the data and the samples.
        batch_size: Sequences per step.
        context: Bytes per sequence.
        layers: Transformer blocks.
        heads: Attention heads per block.
        width: Numbers per position.
        learning_rate: The highest one, reached when the warm-up ends.
        warmup_steps: Steps over which the learning rate rises from zero; in a short training
            fewer, a tenth of all.
        weight_decay: Of AdamW, on matrices alone.
        gradient_norm: Longer gradients are cut to this norm.
        evaluate_every: Steps between evaluations.
        checkpoint_every: Steps between checkpoints that nobody asked for.
        patience: Evaluations without a better one that are tolerated.
        threads: Torch's threads on the CPU, on which the last bits of the weights depend. One is
            enough for so small a model, and many times faster than several on a busy machine.
        sample_length: Bytes generated after each evaluation.
        text_limit: Bytes used of either text; None for all.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt = 2400
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    batch_size: PositiveInt = 4
    context: PositiveInt = 128
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    width: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    warmup_steps: PositiveInt = 100
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    evaluate_every: PositiveInt = 200
    checkpoint_every: PositiveInt = 300
    patience: PositiveInt = 4
    threads: PositiveInt = 1
    sample_length: PositiveInt = 80
    text_limit: PositiveInt | None = None

    @property
    def shape(self) -> ModelShape:
        """The model's size."""
        return ModelShape(
            context=self.context, layers=self.layers, heads=self.heads, width=self.width
        )


FULL: Final = Recipe()
"""About 800,000 parameters and 1.2 million bytes read: some minutes on one core."""

QUICK: Final = Recipe(
    steps=60,
    context=32,
    layers=1,
    heads=2,
    width=32,
    learning_rate=1e-2,
    warmup_steps=5,
    evaluate_every=15,
    checkpoint_every=20,
    sample_length=16,
    text_limit=8192,
)
"""A second of training, for trying things out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What `hotloop demo` was asked for.

    Attributes:
        dir: The folder that holds the runs.
        name: The run's name; a second run of that name becomes `<name>-2`.
        steps: Optimizer steps in all; None for the recipe's.
        seed: Of everything random; None for the recipe's.
        learning_rate: The highest one; None for the recipe's.
        quick: Train a toy for a second instead of a language model for minutes.
        resume: Go on with the newest run of that name from its last checkpoint. The recipe is that
            run's, except for what is given here.
        crash_at: Kill the process with SIGKILL instead of taking this step.
        device: Where to train, as torch names it. A resumed run is bit-equal to an unbroken one on
            the CPU.
        progress: Show the run live; otherwise only the summary is printed.
    """

    dir: Path = field(default=Path("runs"))
    name: str = "demo"
    steps: int | None = None
    seed: int | None = None
    learning_rate: float | None = None
    quick: bool = False
    resume: bool = False
    crash_at: int | None = None
    device: str = "cpu"
    progress: bool = True

    def recipe(self, base: Recipe | None = None) -> Recipe:
        """The numbers to train by.

        Args:
            base: What to start from; the full or the quick recipe by default.

        Raises:
            ValueError: A number is out of range.
        """
        base = base or (QUICK if self.quick else FULL)
        asked = {
            "steps": self.steps,
            "seed": self.seed,
            "learning_rate": self.learning_rate,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return Recipe.model_validate({**base.model_dump(), **given})
