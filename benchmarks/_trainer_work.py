"""What all trainers train: models that note when they are called, and data that is made before."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from _trainer_result import TINY_BATCH, Device, Plan
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from runtime.demo._model import ByteGPT, ModelShape
from runtime.demo._options import FULL

LEARNING_RATE = 1e-4
MAX_NORM = 1.0
LARGE = ModelShape(context=1024, layers=16, heads=12, width=768)
"""The demo's GPT with 113 million parameters."""
BATCH = {"tiny": TINY_BATCH, "gpt": FULL.batch_size, "large": 8}
WIDTH = 16


class Timed(nn.Module):
    """A model whose calls say when they began, whoever trains it.

    Attributes:
        called: Clock at the beginning of each call.
    """

    def __init__(self, inner: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.inner = inner
        self.called: list[float] = []
        ends = {plan.warm, plan.warm + plan.steps}
        self._waits_at = ends if plan.device == "cuda" else set()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Maps a batch to its loss."""
        if len(self.called) in self._waits_at:  # where the clock starts and ends
            torch.cuda.synchronize()
        self.called.append(time.perf_counter())
        logits: Tensor = self.inner(x)
        return {"loss": functional.cross_entropy(logits.flatten(0, -2), labels.flatten())}

    def seconds(self, warm: int) -> float:
        """The mean step after so many steps."""
        timed = self.called[warm:]
        return (timed[-1] - timed[0]) / (len(timed) - 1)


class Samples(Dataset[dict[str, Tensor]]):
    """Random samples, made before they are asked for."""

    def __init__(self, x: Tensor, labels: Tensor) -> None:
        self.x = x
        self.labels = labels

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.labels[index]}


@dataclass(frozen=True, slots=True)
class Task:
    """One block's training: as many steps as the data has batches.

    Attributes:
        model: The model, new.
        data: Its samples.
        batch: How many of them a step has.
        steps: Steps of the whole block.
        device: Where it is trained.
        bf16: Whether in bf16.
    """

    model: Timed
    data: Samples
    batch: int
    steps: int
    device: Device = "cpu"
    bf16: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass in a loop of one's own."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16)


def make_task(plan: Plan) -> Task:
    """The same weights and samples in each block."""
    torch.manual_seed(0)
    batch, steps = BATCH[plan.work], plan.warm + plan.steps + 1
    if plan.work == "tiny":
        inner: nn.Module = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        data = Samples(torch.randn(batch * steps, WIDTH), torch.randint(WIDTH, (batch * steps,)))
    else:
        shape = LARGE if plan.work == "large" else FULL.shape
        inner = ByteGPT(shape)
        text = torch.randint(256, (batch * steps, shape.context + 1))
        data = Samples(text[:, :-1], text[:, 1:])
    if plan.bf16:  # Inductor would need a C++ compiler on a CPU
        inner.compile(backend="inductor" if plan.device == "cuda" else "aot_eager")
    model = Timed(inner, plan).to(plan.device)
    return Task(model, data, batch, steps, plan.device, plan.bf16)
