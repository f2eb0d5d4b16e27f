"""The generators are taken and put back, and Transformers' file is read and written."""

import random

import numpy as np
import pytest
import torch

from runtime._rng import RngState, numpy_globals


@pytest.fixture(autouse=True)
def generators_as_before():
    """The generators of the process are left as they were."""
    before = RngState.capture()
    yield
    before.restore()


def draw():
    """Something of each generator, in odd counts that leave them in the middle of a block."""
    return (
        [random.random() for _ in range(3)],  # noqa: S311 - no secret
        random.gauss(0, 1),
        np.random.standard_normal(5).tolist(),  # noqa: NPY002 - the global one is the point
        torch.randn(7).tolist(),
        torch.randperm(11).tolist(),
    )


def test_draws_repeat():
    """After restoring, each generator gives the same numbers again, a half-used pair included."""
    draw()
    state = RngState.capture()
    first = draw()
    draw()
    state.restore()
    assert draw() == first


def test_through_a_file(tmp_path):
    """The state survives `torch.save` and a load that executes nothing."""
    state = RngState.capture()
    first = draw()
    torch.save(state.to_dict(), tmp_path / "rng_state.pth")
    with torch.serialization.safe_globals(numpy_globals()):
        RngState.from_dict(torch.load(tmp_path / "rng_state.pth", weights_only=True)).restore()
    assert draw() == first


def test_the_dictionary_is_transformers():
    """The entries are those that Transformers' trainer reads, in the types it passes on."""
    plain = RngState.capture().to_dict()
    assert plain.keys() - {"cuda"} == {"python", "numpy", "cpu"}
    random.setstate(plain["python"])
    np.random.set_state(plain["numpy"])  # noqa: NPY002 - the global one is the point
    torch.random.set_rng_state(plain["cpu"])


def test_several_devices():
    """The states of all devices, as Transformers saves them with several ranks, stay a list."""
    state = RngState.capture()
    several = [torch.zeros(16, dtype=torch.uint8)] * 2
    read = RngState.from_dict({**state.to_dict(), "cuda": several})
    assert read.to_dict()["cuda"] == several


@pytest.mark.skipif(torch.cuda.is_available(), reason="what happens without CUDA")
def test_a_cuda_state_without_cuda():
    """A checkpoint of a machine with CUDA resumes on one without."""
    state = RngState.capture()
    first = draw()
    cuda = torch.zeros(16, dtype=torch.uint8)
    RngState.from_dict({**state.to_dict(), "cuda": cuda}).restore()
    assert draw() == first


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_repeat():
    """The current device's generator is taken and put back too."""
    state = RngState.capture()
    first = torch.randn(7, device="cuda").tolist()
    state.restore()
    assert torch.randn(7, device="cuda").tolist() == first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"numpy": None}, "not what"),
        ({"cpu": [1, 2]}, "not what"),
        ({"python": "x"}, "not what"),
    ],
)
def test_a_state_that_is_none(change, said):
    """What no generator gives is refused before any generator is touched."""
    with pytest.raises(ValueError, match=said):
        RngState.from_dict({**RngState.capture().to_dict(), **change})


def test_a_missing_generator():
    """A dictionary without a generator says which."""
    plain = RngState.capture().to_dict()
    del plain["numpy"]
    with pytest.raises(ValueError, match="numpy is missing"):
        RngState.from_dict(plain)
