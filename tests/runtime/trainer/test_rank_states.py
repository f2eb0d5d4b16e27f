"""How the states of all processes come into one checkpoint, and how a group is joined."""

import threading

import pytest
import torch
from torch.distributed import HashStore

import runtime
from runtime._checkpoint_reading import read_tree
from runtime._rank_states import OWN, RankState, RankStates
from runtime._rank_store import RankStateError
from runtime._rng import RngState, numpy_globals

LAUNCHED = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def state(number):
    """A state that tells whose it is."""
    return RankState(RngState.capture(), RngState.capture(), {"losses": torch.tensor(number)})


def both(store, *, writers=1, patience=30.0):
    """The two ranks of a job."""
    return [RankStates(store, r, 2, writers=writers, patience=patience) for r in range(2)]


def test_a_checkpoint_waits_for_all(tmp_path):
    """Whoever writes has the others' states, also those that come later."""
    first, second = both(HashStore())
    give, write = first.handing_over(state(0))
    late, _ = second.handing_over(state(1))
    writing = threading.Thread(target=lambda: (give(), write(tmp_path)))
    writing.start()
    late()
    writing.join()
    for rank in range(2):
        tree = read_tree(tmp_path, f"rng_state_{rank}.pth", also=numpy_globals())
        assert tree[OWN]["losses"] == rank
        assert torch.equal(RngState.from_dict(tree).cpu, torch.get_rng_state())


@pytest.mark.parametrize("writers", [1, 2])
def test_states_are_forgotten_once_all_have_them(tmp_path, writers):
    """The store does not grow with the checkpoints."""
    store = HashStore()
    ranks = both(store, writers=writers)
    for _ in range(3):
        planned = [each.handing_over(state(0)) for each in ranks]
        for give, _ in planned:
            give()
        for _, write in planned[:writers]:
            write(tmp_path)
    assert store.num_keys() == 0


def test_a_rank_that_says_nothing_is_named(tmp_path):
    """There is no checkpoint without it."""
    first, _ = both(HashStore(), patience=0.05)
    give, write = first.handing_over(state(0))
    give()
    with pytest.raises(RankStateError, match="rank 1 has not handed over"):
        write(tmp_path)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_an_incomplete_launch_is_told(monkeypatch, tmp_path, name):
    """Instead of waiting for processes that nobody has started."""
    for key, value in {**LAUNCHED, name: ""}.items():
        monkeypatch.setenv(key, value)
    args = runtime.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=f"{name} is not set: start the script with torchrun"):
        runtime.Trainer(torch.nn.Linear(1, 1), args)
