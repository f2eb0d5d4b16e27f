"""Seeding makes every random source repeat itself, in workers too."""

import functools
import os
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from runtime._seeds import enable_full_determinism, seed_worker, set_seed

VARIABLES = ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC")


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """Global settings and generators are put back."""
    for name in (
        "CUDA_LAUNCH_BLOCKING",
        "CUBLAS_WORKSPACE_CONFIG",
        "FLASH_ATTENTION_DETERMINISTIC",
    ):
        monkeypatch.setenv(name, "")  # so that it is restored
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
    torch.use_deterministic_algorithms(mode=False)


def drawn():
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: S311, NPY002


def test_the_same_seed_draws_the_same():
    """Python's, numpy's and torch's generators start over."""
    set_seed(7)
    first = drawn()
    set_seed(7)

    assert drawn() == first
    assert drawn() != first


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused_before_anything_is_seeded(seed):
    """The message names the range; no generator has moved."""
    set_seed(1)
    expected = drawn()
    set_seed(1)

    with pytest.raises(ValueError, match=f"seed={seed} must be 0 to 4294967295"):
        set_seed(seed)
    assert drawn() == expected


def test_determinism_is_asked_of_torch_only_on_request():
    """`deterministic` switches torch's algorithms, plain seeding does not."""
    set_seed(1)
    assert not torch.are_deterministic_algorithms_enabled()

    set_seed(1, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()


def test_full_determinism_sets_everything_torch_asks_for():
    """Algorithms, cuDNN and the variables that CUDA reads when it starts."""
    enable_full_determinism(3, warn_only=True)
    first = drawn()

    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUDA_LAUNCH_BLOCKING"] == "1"
    set_seed(3)
    assert drawn() == first


class Noise(Dataset):
    """Each item is what numpy's and Python's generators say."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.random.random(), random.random()  # noqa: S311, NPY002


def noise(seed, rank):
    loader = DataLoader(
        Noise(),
        num_workers=2,
        generator=torch.Generator().manual_seed(seed),
        worker_init_fn=functools.partial(seed_worker, num_workers=2, rank=rank),
    )
    return [tuple(float(value) for value in batch) for batch in loader]


@pytest.mark.slow
def test_workers_draw_the_same_again_and_differ_among_themselves():
    """numpy and Python follow the loader's seed in each worker; ranks get streams of their own."""
    first = noise(5, rank=0)

    assert noise(5, rank=0) == first
    assert noise(5, rank=1) != first
    assert len(set(first)) == 4
