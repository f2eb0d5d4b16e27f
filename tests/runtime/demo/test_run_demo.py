"""The demo as a whole: what it learns, who stops it, and what a kill costs."""

import math
import shutil
import signal
from io import StringIO
from pathlib import Path
from typing import cast

import pytest
import torch
from rich.console import Console

from bus import ArtifactReady, CheckpointSaved, JournalReader, MetricsLogged, TextLogged
from runtime import TRAINER_STATE_NAME as STATE
from runtime import TrainerState
from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._checkpoint_load import load_checkpoint
from runtime.demo import DeviceUnusableError, NothingToResumeError
from runtime.demo._summary import DemoSummary, print_summary
from runtime.demo._trainer import evaluations

pytestmark = pytest.mark.slow


def losses(run_dir: Path) -> dict[int, float]:
    """The training loss that counts, by step."""
    records = JournalReader(run_dir).records(types=(MetricsLogged,))
    events = [cast("MetricsLogged", record.event) for record in records]
    return {event.step or 0: event.metrics["loss"] for event in events if "loss" in event.metrics}


def loaded(checkpoint: Path) -> LoadedCheckpoint:
    return load_checkpoint(checkpoint, device=torch.device("cpu"))


def assert_same(one: object, other: object) -> None:
    """Compares nested checkpoints, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    else:
        assert one == other


class TestTraining:
    def test_learns_and_sums_up(self, finished):
        """Every number in the summary is what the journal and the disk say."""
        summary = finished
        journal = JournalReader(summary.run_dir)
        saved = [record.event for record in journal.records(types=(CheckpointSaved,))]
        texts = [record.event for record in journal.records(types=(TextLogged,))]
        assert (summary.outcome, summary.reason, summary.attempts) == ("finished", None, 1)
        assert (summary.steps, summary.run_dir.name) == (60, "demo")
        assert summary.loss_before == pytest.approx(math.log(256), abs=0.5)
        assert summary.loss_after < summary.loss_before - 1
        assert summary.bits_per_byte == pytest.approx(summary.loss_after / math.log(2))
        assert summary.published == summary.journalled == sum(1 for _ in journal.records())
        assert summary.dropped == 0
        assert 0 < summary.publish_p50_us <= summary.publish_p99_us
        assert {each.by for each in summary.decisions} == {"save_the_best"}
        assert [str(path) for path in summary.checkpoints] == [event.path for event in saved][-2:]
        assert [event.text for event in texts] == [summary.sample]
        assert summary.report.read_text(encoding="utf-8").startswith("<!")
        assert list(losses(summary.run_dir)) == list(range(1, 61))

    def test_is_reproducible(self, finished, demo):
        """The same seed gives the same losses; another one others."""
        again, other = demo(), demo(seed=1)
        assert losses(finished.run_dir) == losses(again.run_dir) != losses(other.run_dir)
        assert finished.sample == again.sample
        assert other.run_dir.name == "demo-2"

    def test_announces_the_best_checkpoint(self, finished):
        """Whoever uploads artifacts finds it by its alias."""
        summary = finished
        records = JournalReader(summary.run_dir).records(types=(ArtifactReady,))
        best = [
            event for r in records if "best" in (event := cast("ArtifactReady", r.event)).aliases
        ]
        found = evaluations(TrainerState.load_from_json(summary.checkpoints[-1] / STATE))
        assert best[-1].step == min(found, key=found.__getitem__)


class TestDecisions:
    def test_divergence_is_noticed_by_a_watcher(self, demo):
        """An absurd learning rate ends the run long before its steps are taken."""
        summary = demo(learning_rate=1e30, steps=100_000)
        assert summary.outcome == "stopped"
        assert summary.steps < 1000
        stop = summary.decisions[-1]
        assert (stop.request, stop.by) == ("stop", "stop_on_divergence")
        assert stop.reason.startswith(("loss is nan at step", "loss is inf at step"))

    def test_early_stopping_decides(self, demo):
        """Four evaluations without a better one, and the fourth is the last: always the same."""
        summary = demo(learning_rate=1e-12, steps=1000)
        assert (summary.outcome, summary.steps) == ("stopped", 60)
        stop = summary.decisions[-1]
        assert (stop.step, stop.request, stop.by) == (60, "stop", "early_stopping")
        assert "has not improved in 4 evaluations" in stop.reason


class TestAfterAKill:
    def test_the_rest_is_as_if_nothing_had_happened(self, finished, demo, run_command):
        """Killed with SIGKILL and resumed: the same weights, optimizer and losses, to the bit."""
        killed = run_command("--crash-at", "38", "--name", "broken")
        assert killed.code == -signal.SIGKILL, killed.err
        assert "go on with --resume" in killed.out
        resumed = demo(name="broken", resume=True)

        broken, whole = (loaded(each.checkpoints[-1]) for each in (resumed, finished))
        assert broken.path.name == whole.path.name == "checkpoint-60"
        assert_same(broken.model, whole.model)
        assert_same(broken.optimizer, whole.optimizer)
        assert (resumed.loss_before, resumed.loss_best) == (
            finished.loss_before,
            finished.loss_best,
        )
        assert resumed.sample == finished.sample

        first, second = JournalReader(resumed.run_dir).attempts
        assert (first.outcome, second.outcome, resumed.attempts) == ("crashed", "finished", 2)
        assert second.resumed_from_step == 30
        found, expected = losses(resumed.run_dir), losses(finished.run_dir)
        assert set(range(31, 61)) <= found.keys()  # the killed one may have lost its last 50 ms
        assert found == {step: expected[step] for step in found}

    def test_early_stopping_remembers(self, demo, run_command):
        """Evaluations before the kill count, so both stop at the same step."""
        options = ("--learning-rate", "1e-12", "--steps", "1000")
        assert run_command("--crash-at", "50", *options).code == -signal.SIGKILL
        summary = demo(resume=True)
        assert (summary.outcome, summary.steps, summary.attempts) == ("stopped", 60, 2)

    def test_killed_before_the_first_step(self, demo, run_command):
        """There is a checkpoint already."""
        assert run_command("--crash-at", "1").code == -signal.SIGKILL
        summary = demo(resume=True)
        assert (summary.outcome, summary.attempts, summary.steps) == ("finished", 2, 60)


class TestResume:
    def test_needs_a_run(self, demo, tmp_path):
        """The message names the folder and the run."""
        with pytest.raises(NothingToResumeError, match="no run named 'demo'") as caught:
            demo(resume=True)
        assert caught.value.place == tmp_path

    def test_needs_something_left_to_do(self, demo):
        """A finished run goes on only when more steps are asked for."""
        demo()
        with pytest.raises(NothingToResumeError, match="all of its 60 steps are taken"):
            demo(resume=True)
        assert demo(resume=True, steps=70).steps == 70

    def test_needs_a_checkpoint(self, demo):
        """One that somebody deleted cannot be gone on from."""
        for path in demo().checkpoints:
            shutil.rmtree(path)
        with pytest.raises(NothingToResumeError, match="it has no checkpoint"):
            demo(resume=True)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_does_not_exist(demo, tmp_path, device):
    """Is refused before a run is made."""
    with pytest.raises(DeviceUnusableError, match=device):
        demo(device=device)
    assert list(tmp_path.iterdir()) == []


def test_the_panel_holds_every_number(finished):
    """What is printed is what is returned."""
    summary: DemoSummary = finished
    console = Console(file=StringIO(), width=200)
    print_summary(summary, console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "demo: finished" in text
    for expected in (
        str(summary.run_dir),
        str(summary.report),
        f"{summary.parameters:,} parameters",
        f"{summary.loss_before:.3f} → {summary.loss_after:.3f} nats per byte",
        f"{summary.bits_per_byte:.3f} bits",
        f"p50 {summary.publish_p50_us:.1f} µs, p99 {summary.publish_p99_us:.1f} µs",
        f"{summary.published:,} published, {summary.journalled:,} journalled, 0 dropped",
        f"{len(summary.decisions)} x save by save_the_best",
        summary.checkpoints[-1].name,
    ):
        assert expected in text
