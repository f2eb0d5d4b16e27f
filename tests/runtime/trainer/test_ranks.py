"""Several processes train what one process trains whose batches are as large as theirs together."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import runtime
from runtime._world import World
from tests.runtime.trainer import rank_signals, rank_trials
from tests.runtime.trainer.launched import ONCE
from tests.runtime.trainer.rank_trials import BATCH, Model, Samples, arguments

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIKE_ONE = ("even", "accumulated", "uneven", "dropped", "tokens", "streamed", "compiled")


def same_logs(own, other):
    """Compare log entries, numbers to the precision that sums in another order leave."""
    assert [list(entry) for entry in own] == [list(entry) for entry in other]
    for one, two in zip(own, other, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-6)


def assert_same_weights(one, other):
    """Compare weights bit by bit."""
    assert all(torch.equal(one["weights"][key], each) for key, each in other["weights"].items())


@pytest.mark.parametrize("name", LIKE_ONE)
def test_they_train_what_one_process_trains(launched, alone, name):
    """Weights, losses, norms and token counts are those of one process, on every rank."""
    all_found, one = launched.of(name), alone(name)
    for found in all_found:
        same_logs(found["logs"], one["logs"])
        assert found["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        assert (found["steps"], found["flos"]) == (one["steps"], one["flos"])
        for key, weight in one["weights"].items():
            torch.testing.assert_close(found["weights"][key], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LIKE_ONE)
def test_all_ranks_end_with_the_same_bits(launched, name):
    """Nothing drifts apart between ranks, logged numbers neither."""
    first, *others = launched.of(name)
    for other in others:
        assert other["logs"] == first["logs"]
        assert_same_weights(other, first)


@pytest.mark.parametrize("name", LIKE_ONE)
def test_each_round_is_what_one_process_sees(launched, alone, name):
    """The batches of all ranks together are the one process's, in the same order."""
    rounds = zip(*(found["seen"] for found in launched.of(name)), strict=True)
    assert [[index for batch in each for index in batch] for each in rounds] == alone(name)["seen"]


def test_workers_of_all_ranks_share_a_stream(launched):
    """Each sample is read once, and workers take turns on every rank."""
    seen = [index for found in launched.of("worked") for batch in found["seen"] for index in batch]
    whole = launched.size * BATCH
    assert sorted(seen) == sorted([*range(2 * whole), *range(2 * whole, 6 * whole)])


def test_evaluation_counts_each_sample_once(launched, alone):
    """Metrics, predictions and labels are one process's, in the data's order, on every rank."""
    one = alone("evaluated")
    for found in launched.of("evaluated"):
        for name in ("eval_accuracy", "eval_order"):
            assert found["metrics"][name] == one["metrics"][name]
        assert found["metrics"]["eval_loss"] == pytest.approx(one["metrics"]["eval_loss"], rel=1e-5)
        for kind in ("prediction", "stream"):
            np.testing.assert_allclose(found[kind].predictions, one[kind].predictions, rtol=1e-5)
            np.testing.assert_array_equal(found[kind].label_ids, one[kind].label_ids)
        sizes = [len(batch) for batch in found["apart"]]
        assert sizes == [len(batch) for batch in one["apart"]]


def test_metrics_batch_by_batch_see_whole_rounds(launched, alone):
    """`batch_eval_metrics` gets what all ranks have of a round, and the result is one process's."""
    one = alone("batchwise")
    for found in launched.of("batchwise"):
        assert found["hits"] == one["hits"]
        assert found["sizes"] == one["sizes"]


def test_gradients_are_exchanged_as_asked(launched):
    """The `ddp_*` arguments reach torch: a static graph without a search for unused parameters."""
    first, *others = launched.of("settings")
    for other in others:
        for name in ("first.weight", "second.weight"):
            assert torch.equal(other["weights"][name], first["weights"][name])
        # Nobody broadcasts what each has seen.
        own, his = (each["weights"]["norm.running_mean"] for each in (first, other))
        assert not torch.equal(own, his)


def test_one_rank_stops_all_from_within_an_evaluation(launched):
    """Ranks with fewer batches keep count, so all stop at one step, soon after."""
    steps = {found["steps"] for found in launched.of("stopped")}
    assert len(steps) == 1
    assert 4 <= steps.pop() < 400


def test_a_signal_ends_all_ranks_at_one_step(launched):
    """SIGTERM to one of them, or to all within half a second: one whole checkpoint, one outcome."""
    for ranks in zip(*(found["trials"] for found in launched.of("signalled")), strict=True):
        assert rank_signals.wrong([*ranks]) == []


def test_what_needs_all_ranks_is_refused_to_one(launched):
    """It does not hang, and says what to do."""
    first, *others = launched.of("refused")
    assert "Trainer.evaluate needs every rank" in first["alone"]
    for found in (first, *others):
        assert "auto_find_batch_size=True works in one process" in found["batch size"]


def test_metrics_are_the_first_ranks(launched):
    """Whoever decides by metrics that differ decides alike, so nobody waits for anybody."""
    first, *others = launched.of("differing")
    assert first["steps"] == 3 * 2  # the first is the best, and patience ends with the third
    assert {other["steps"] for other in others} == {first["steps"]}


def test_resuming_is_exact(launched):
    """Every rank goes on with its own random numbers: the end has the bits of an unbroken one."""
    for found in launched.of("resumed"):
        whole, broken = found["unbroken"], found["broken"]
        assert broken["logs"] == whole["logs"]
        assert broken["seen"] == whole["seen"][-len(broken["seen"]) :]
        assert_same_weights(broken, whole)


def test_a_checkpoint_has_the_states_of_all(launched):
    """One folder, written by one rank, nothing hidden left, rotated to the limit."""
    found = launched.of("resumed")[0]["unbroken files"]
    states = {f"rng_state_{rank}.pth" for rank in range(launched.size)}
    folders = {Path(name).parent.name for name in found}
    assert len(folders) == 2
    for folder in folders:
        names = {Path(name).name for name in found if Path(name).parent.name == folder}
        assert states | {"model.safetensors", "manifest.json"} <= names
        assert "rng_state.pth" not in names


def test_the_best_model_is_everybodys(launched):
    """After the end every rank has the best weights and statistics, and rotation kept one."""
    first, *others = launched.of("best")
    assert first["left"] == [f"checkpoint-{first['best step']}"]
    assert first["again"] == pytest.approx(first["best"], rel=1e-5)
    for other in others:
        assert (other["best"], other["again"]) == (first["best"], first["again"])
        assert_same_weights(other, first)


def test_one_process_goes_on_with_a_checkpoint_of_several(launched, tmp_path, caplog):
    """The end is that of the unbroken training; a notice says what is not the same."""
    checkpoint = launched.folder / "resumed" / "unbroken" / "checkpoint-4"
    args = arguments(
        tmp_path,
        World(),
        per_device_train_batch_size=BATCH * launched.size,
        gradient_accumulation_steps=2,
    )
    with runtime.Trainer(Model(chance=0.5), args, None, Samples(10 * launched.size + 1)) as trainer:
        with caplog.at_level(logging.WARNING, "runtime"):
            trainer.train(resume_from_checkpoint=str(checkpoint))
        assert trainer.state.global_step == launched.of("resumed")[0]["unbroken"]["steps"]
    assert f"made by {launched.size} processes and 1 go on" in caplog.text


def test_only_the_first_rank_prints(launched):
    """What is logged is printed once."""
    summaries = [line for line in launched.text.splitlines() if "'train_loss'" in line]
    others = ("worked", "settings", "stopped", "differing", "unbroken", "broken", "best")
    trained = [name for name in (*LIKE_ONE, *others) if name not in set(ONCE) - set(launched.names)]
    assert len(summaries) == len(trained)


def test_a_group_that_exists_is_left_alone(launched):
    """A trainer ends the group that it made, also if it fails in its constructor, and no other."""
    for found in launched.of(list(rank_trials.trials())[-1]):
        assert found["groups"] == [name not in rank_trials.OWN_GROUP for name in launched.names]
