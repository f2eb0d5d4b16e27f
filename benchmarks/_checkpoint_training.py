"""What is saved in `checkpoint.py`, and the clock around it; knows of no library but torch."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch

WIDTH = 1024
BYTES_PER_PARAMETER = 12  # float32: the weight and AdamW's two moments


@dataclass(slots=True)
class Sample:
    """What one process measured, in seconds.

    Attributes:
        held: How long each save held the training thread.
        written: From each save until its checkpoint was complete.
        before: Steps before each save.
        during: Steps while a checkpoint was being written.
        size: Bytes of the state.
    """

    held: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    size: int = 0


def training(megabytes: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A stack of linear layers whose state has that size, and its optimizer after a step."""
    torch.set_num_threads(1)
    layers = round(megabytes * 1e6 / BYTES_PER_PARAMETER / WIDTH**2)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    take_step(model, optimizer)
    return model, optimizer


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train on a small batch."""
    model(torch.ones(4, WIDTH)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def measure_saves(
    megabytes: int,
    saves: int,
    save: Callable[[int], None],
    busy: Callable[[], bool],
    step: Callable[[], None],
) -> None:
    """Save so many times amid steps and print a `Sample`.

    Args:
        megabytes: The size of the state.
        saves: How many times.
        save: Saves under a number.
        busy: Whether a checkpoint is still being written.
        step: Takes one training step.
    """
    sample = Sample(size=megabytes * 1_000_000)
    for number in range(1, saves + 1):
        os.sync()  # the last checkpoint's pages are not this one's to write
        sample.before += [timed(step) for _ in range(12)]
        began = time.perf_counter()
        save(number)
        sample.held.append(time.perf_counter() - began)
        while busy():
            seconds = timed(step)
            if busy():
                sample.during.append(seconds)
        sample.written.append(time.perf_counter() - began)
    print(json.dumps(asdict(sample)))


def timed(act: Callable[[], None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
