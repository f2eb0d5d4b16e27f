"""Launches the trials of several processes, once for all tests that look at them."""

import shutil

import pytest
import torch

from tests.runtime.ranks.launching import launch
from tests.runtime.trainer import rank_trials

ONCE = (
    *("batchwise", "best", "compiled", "differing", "dropped"),
    *("refused", "settings", "stopped", "streamed", "tokens", "worked"),
    *("sharded_tokens", "sharded_half", "sharded_compiled", "sharded_dropped"),
    *("sharded_resumed", "sharded_best", "sharded_unread", "sharded_logs"),
)
"""Trials in which more processes would show nothing more."""


class Launched:
    """What the processes of one launch have left behind.

    Args:
        folder: Where their trials are to be.
        size: How many there are.
        others: Launches with whose checkpoints they go on.

    Attributes:
        size: How many there were.
        folder: Where their trials were.
        text: What all of them have printed.
        alone: What one process has made of the same trials.
    """

    def __init__(self, folder, size, others=()):
        self.folder, self.size, self.alone = folder, size, {}
        self.names = [name for name in rank_trials.trials() if size == 2 or name not in ONCE]
        said = folder / "said"
        if not said.exists():
            rank_trials.run("source", folder / "made by 1", size)
            for each in others:
                made = folder / f"made by {each.size}" / "source"
                shutil.copytree(each.folder / "source" / "checkpoint-4", made / "checkpoint-4")
            said.write_text(self.launch())
        self.text = said.read_text()

    def launch(self):
        """Start the processes; return what they print."""
        ended = launch(rank_trials.__file__, self.folder, *self.names, size=self.size, timeout=800)
        assert all(each.code == 0 for each in ended), ended
        return "".join(each.out + each.err for each in ended)

    def of(self, name):
        """What each process has of a trial."""
        if name not in self.names:
            pytest.skip("two processes show it")
        return [
            torch.load(self.folder / f"{name}-{rank}.pt", weights_only=False)
            for rank in range(self.size)
        ]
