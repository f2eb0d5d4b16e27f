"""A model, its optimizer and how far they are: one step, one evaluation, and the way to disk."""

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from runtime.demo._checkpoint import Checkpoint
from runtime.demo._data import Corpus, load_corpus
from runtime.demo._model import ByteGPT
from runtime.demo._options import Recipe

_BETAS: Final = (0.9, 0.99)
_PROMPT: Final = "The "


class Learner:
    """Everything that a step changes. Knows nothing of runs, events or files.

    Args:
        recipe: The numbers to train by.
        device: Where the model lives.

    Attributes:
        step: Optimizer steps taken so far.
        evaluations: The validation loss in nats per byte by step, oldest first.
    """

    def __init__(self, recipe: Recipe, *, device: str = "cpu") -> None:
        torch.default_generator.manual_seed(recipe.seed)
        self.recipe: Final = recipe
        self.corpus: Final[Corpus] = load_corpus(limit=recipe.text_limit)
        self.model: Final = ByteGPT(recipe.shape).to(device)
        self.optimizer: Final = _optimizer(self.model, recipe)
        self.step = 0
        self.evaluations: dict[int, float] = {}
        self._device = device

    @property
    def parameters(self) -> int:
        """How many numbers the model learns."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def best_step(self) -> int:
        """The step of the lowest validation loss so far; 0 before the first evaluation."""
        return min(
            self.evaluations, key=lambda step: _or_infinity(self.evaluations[step]), default=0
        )

    def learn(self) -> Mapping[str, float | Tensor]:
        """Takes the next step.

        Returns:
            Its metrics. The tensors are still on the device: nobody waited for them.
        """
        self.step += 1
        rate = self.recipe.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = self.corpus.batch(
            seed=self.recipe.seed,
            step=self.step,
            size=self.recipe.batch_size,
            context=self.recipe.context,
        )
        loss = self.model.loss(inputs.to(self._device), targets.to(self._device))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_norm)
        self.optimizer.step()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it so
        return {"train/loss": loss.detach(), "train/grad_norm": norm, "train/lr": rate}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Reads the whole validation text.

        Returns:
            `loss`, the mean cross-entropy in nats per byte, and the same in `bits_per_byte`.
        """
        self.model.eval()
        total = torch.zeros((), device=self._device)
        count = 0
        for inputs, targets in self.corpus.validation_batches(size=32, context=self.recipe.context):
            mean = self.model.loss(inputs.to(self._device), targets.to(self._device))
            total += mean * targets.numel()
            count += targets.numel()
        self.model.train()
        loss = float(total) / count  # the one place that waits for the device
        self.evaluations[self.step] = loss
        return {"loss": loss, "bits_per_byte": loss / math.log(2)}

    def sample(self, length: int) -> str:
        """Writes some text; the same one whenever it is asked at the same step.

        Whatever could trouble a terminal is replaced: an untrained model writes any byte.
        """
        text = self.model.generate(_PROMPT, length=length, seed=self.recipe.seed + self.step)
        return "".join(each if _is_harmless(each) else "·" for each in text)

    def checkpoint(self) -> Checkpoint:
        """All that an unbroken run would know after this step; shares its tensors."""
        return Checkpoint(
            recipe=self.recipe,
            step=self.step,
            evaluations=dict(self.evaluations),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random_state=torch.get_rng_state(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to where a checkpoint of the same model was written."""
        self.model.load_state_dict(dict(checkpoint.model))
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        torch.set_rng_state(checkpoint.random_state)
        self.step = checkpoint.step
        self.evaluations = dict(checkpoint.evaluations)


def _is_harmless(character: str) -> bool:
    return character == "\n" or (
        character.isprintable() and character != "\N{REPLACEMENT CHARACTER}"
    )


def _or_infinity(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def _optimizer(model: ByteGPT, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [each for each in model.parameters() if each.ndim >= 2]
    vectors = [each for each in model.parameters() if each.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=_BETAS,
        fused=True,
    )
