"""Seeds every source of random numbers that training draws from."""

import os
import random

import numpy as np
import torch


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python's, numpy's and torch's global generators, those of every device included.

    Args:
        seed: 0 to 2**32 - 1, numpy's range.
        deterministic: Also have torch use deterministic algorithms, and raise where it has none.

    Raises:
        ValueError: The seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed} must be 0 to {2**32 - 1}, the range of numpy's generator")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what users' transforms draw from
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    if deterministic:
        torch.use_deterministic_algorithms(mode=True)


def enable_full_determinism(seed: int, warn_only: bool = False) -> None:
    """Seed everything and have the same program compute the same bits again, at a price in speed.

    CUDA reads its two environment variables when it starts, so this belongs before the first use
    of a device. See https://pytorch.org/docs/stable/notes/randomness.html.

    Args:
        seed: 0 to 2**32 - 1.
        warn_only: Warn, instead of raising, where torch has no deterministic algorithm.

    Raises:
        ValueError: The seed is out of range.
    """
    set_seed(seed)
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
    torch.use_deterministic_algorithms(mode=True, warn_only=warn_only)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def seed_worker(worker_id: int, *, num_workers: int, rank: int) -> None:  # noqa: ARG001 - passed by torch
    """Seed a worker of a DataLoader; `functools.partial` of it is a `worker_init_fn`.

    Torch has seeded the worker with the loader's base seed plus the worker's number; numpy and
    Python follow it, and the ranks of a job differ.

    Args:
        worker_id: The worker's number, which torch's seed already contains.
        num_workers: How many workers a loader has.
        rank: The process that the loader belongs to.
    """
    set_seed((num_workers * rank + torch.initial_seed()) % 2**32)
