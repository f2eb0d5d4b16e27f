"""Checkpoints: complete or not there, safe to read, and enough to go on from."""

import pickle
from dataclasses import replace

import pytest
import torch

from runtime.demo._checkpoint import Checkpoint, checkpoints, forget_old
from runtime.demo._learner import Learner
from runtime.demo._options import QUICK

pytestmark = pytest.mark.timeout(60)  # torch's first optimizer of a process loads for seconds


def learner(steps: int) -> Learner:
    made = Learner(QUICK)
    for _ in range(steps):
        made.learn()
    return made


class TestCheckpoint:
    def test_holds_all_that_matters(self, tmp_path):
        """A restored learner takes the same steps, to the bit, as one that never stopped."""
        unbroken = learner(3)
        unbroken.evaluate()
        path = unbroken.checkpoint().save(tmp_path)
        restored = Learner(QUICK)
        restored.restore(Checkpoint.load(path))
        assert (restored.step, restored.evaluations) == (3, unbroken.evaluations)
        for _ in range(3):
            expected, found = unbroken.learn(), restored.learn()
            assert found.keys() == expected.keys()
            assert all(
                torch.equal(*map(torch.as_tensor, pair))
                for pair in zip(expected.values(), found.values(), strict=True)
            )
        weights = zip(unbroken.model.parameters(), restored.model.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in weights)

    def test_restores_the_random_state(self, tmp_path):
        """What torch draws next is what it would have drawn."""
        path = learner(1).checkpoint().save(tmp_path)
        expected = torch.rand(3)
        torch.rand(100)
        Learner(QUICK).restore(Checkpoint.load(path))
        assert torch.equal(torch.rand(3), expected)

    def test_a_failed_write_leaves_the_one_before(self, tmp_path):
        """Nobody ever sees half of a checkpoint."""
        whole = learner(1).checkpoint()
        path = whole.save(tmp_path)
        unwritable = replace(whole, model={**whole.model, "x": lambda: None})
        with pytest.raises((pickle.PicklingError, AttributeError)):
            unwritable.save(tmp_path)
        assert checkpoints(tmp_path) == [path]
        assert Checkpoint.load(path).step == 1

    def test_runs_nothing_when_read(self, tmp_path):
        """A file with code in it is refused."""
        marker = tmp_path / "ran"

        class Trap:
            def __reduce__(self):
                return (open, (str(marker), "w"))

        path = tmp_path / "trap.pt"
        torch.save({"recipe": Trap()}, path)
        with pytest.raises(pickle.UnpicklingError):
            Checkpoint.load(path)
        assert not marker.exists()


class TestForgetOld:
    def test_keeps_the_newest_and_the_best(self, tmp_path):
        """The best one may be old: early stopping waits before it gives up."""
        saved = learner(0).checkpoint()
        for step in range(0, 1200, 200):
            replace(saved, step=step).save(tmp_path)
        forget_old(tmp_path, newest=2, best_step=400)
        names = [path.name for path in checkpoints(tmp_path)]
        assert names == ["step-000400.pt", "step-000800.pt", "step-001000.pt"]
