"""Several processes train a sharded model as one process trains all of it."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import runtime
from runtime._world import World
from tests.runtime.trainer import shard_trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIKE_ONE = ("sharded", "sharded_tokens", "sharded_compiled", "sharded_dropped")


def assert_near(one, other, tolerance=1e-5):
    """Compare weights to the precision that sums in another order leave."""
    assert one.keys() == other.keys()
    for name, weight in other.items():
        torch.testing.assert_close(one[name], weight, rtol=1e-4, atol=tolerance)


def same_logs(own, other, tolerance=1e-4):
    """Compare log entries likewise."""
    assert [list(entry) for entry in own] == [list(entry) for entry in other]
    for one, two in zip(own, other, strict=True):
        assert one == pytest.approx(two, rel=tolerance, abs=1e-6)


@pytest.mark.parametrize("name", LIKE_ONE)
def test_they_train_what_one_process_trains(launched, alone, name):
    """Weights, losses and norms are those of one process, with the first rank's weights."""
    all_found, one = launched.of(name), alone(name)
    assert any(entry.get("grad_norm", 0) > 0.2 for entry in one["logs"])  # so it was clipped
    for found in all_found:
        same_logs(found["logs"], one["logs"])
        assert found["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        assert found["flos"] == one["flos"]
        assert_near(found["weights"], one["weights"])


def test_blocks_are_gathered_one_at_a_time(launched, alone):
    """By class or by size; tied weights stay with the model, a single process shards nothing."""
    blocks = ["", "blocks.0", "blocks.1"]
    assert [found["kinds"] for found in launched.of("sharded")] == [blocks] * launched.size
    if launched.size == 2:
        assert launched.of("sharded_tokens")[1]["kinds"] == blocks
    assert alone("sharded")["kinds"] == []


def test_half_precision_computes_the_same_roughly(launched, alone):
    """In bfloat16 sharded parameters give what autocasting gives; they stay float32."""
    one = alone("sharded_half")
    for found in launched.of("sharded_half"):
        same_logs(found["logs"], one["logs"], tolerance=0.05)
        assert {each.dtype for each in found["weights"].values()} >= {torch.float32}
        assert_near(found["weights"], one["weights"], tolerance=0.05)


def test_evaluation_may_be_uneven(launched, alone):
    """Ranks without a batch compute along; each sample counts once, and training is unmoved."""
    one = alone("sharded_evaluated")
    for found in launched.of("sharded_evaluated"):
        assert found["metrics"]["eval_loss"] == pytest.approx(one["metrics"]["eval_loss"], 1e-5)
        assert found["few"] == pytest.approx(one["few"], rel=1e-5)
        assert found["rows"] == one["rows"] == 1
        torch.testing.assert_close(*map(torch.as_tensor, (found["prediction"], one["prediction"])))
        assert_near(found["weights"], one["weights"])


def test_resuming_is_exact(launched):
    """With as many ranks as before the end has the bits of an unbroken training."""
    for found in launched.of("sharded_resumed"):
        whole, broken = found["unbroken"], found["broken"]
        assert broken["logs"] == whole["logs"]
        for name, weight in whole["weights"].items():
            assert torch.equal(broken["weights"][name], weight)


def test_a_checkpoint_is_one_folder_of_shards(launched):
    """Each rank's files are in it and in its manifest; nothing hidden and no pickle of ours."""
    folder = launched.folder / "source" / "checkpoint-4"
    of = f"of-{launched.size}.safetensors"
    shards = {
        f"{kind}_rank{r}-{of}" for r in range(launched.size) for kind in ("model", "optimizer")
    }
    names = {path.name for path in folder.iterdir()}
    assert shards <= names
    assert "model.safetensors" not in names
    manifest = (folder / "manifest.json").read_text()
    assert all(name in manifest for name in names - {"manifest.json"})
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_other_numbers_of_processes_go_on_with_it(launched, alone):
    """From one process to several and from four to two: the end of an unbroken training."""
    one = alone("source")
    for found in launched.of("sharded_elsewhere"):
        made_by = {"made by 1"} if launched.size == 4 else {"made by 1", "made by 4"}
        assert found.keys() - {"groups"} == made_by
        for name in made_by:
            same_logs(found[name]["logs"], one["logs"])
            assert_near(found[name]["weights"], one["weights"])


def test_one_process_goes_on_with_it(launched, alone, tmp_path):
    """Two or four ranks' checkpoint, optimizer included, in a process by itself."""
    one, checkpoint = alone("source"), launched.folder / "source" / "checkpoint-4"
    with shard_trials.resumable(tmp_path, World()) as trainer:
        trainer.train(resume_from_checkpoint=str(checkpoint))
        assert_near(dict(trainer.model.state_dict()), one["weights"])


def test_the_best_model_is_loaded_and_exported(launched):
    """Each rank has its part of the best weights, and one file has all of them."""
    first, *others = launched.of("sharded_best")
    assert first["left"] == [f"checkpoint-{first['step']}"]
    assert first["again"] == pytest.approx(first["best"], rel=1e-5)
    for other in others:
        assert (other["best"], other["again"]) == (first["best"], first["again"])
    exported = load_file(launched.folder / "sharded_best" / "model" / "model.safetensors")
    assert "last.weight" not in exported  # which is tied
    assert all(torch.equal(each, first["weights"][name]) for name, each in exported.items())


def test_a_checkpoint_on_disk_becomes_one_model(launched, tmp_path):
    """What comes out is what `save_model` wrote, in several files if they are to be small."""
    place = launched.folder / "source"
    (file,) = runtime.consolidate(place / "checkpoint-6", tmp_path / "one")
    one, exported = load_file(file), load_file(place / "model" / "model.safetensors")
    assert one.keys() == exported.keys()
    assert all(torch.equal(one[name], each) for name, each in exported.items())
    files = runtime.consolidate(place / "checkpoint-6", tmp_path / "more", max_file_size=200)
    parts = [load_file(each) for each in files]
    assert len(parts) > 1
    assert {name for part in parts for name in part} == one.keys()
    assert (tmp_path / "more" / "model.safetensors.index.json").is_file()


def test_a_step_reads_nothing_on_the_host(launched):
    """Clipping included, whose norm all ranks make together."""
    for found in launched.of("sharded_unread"):
        assert found["calls"] > 100
        assert found["reads"] == []


def test_distributed_tensors_are_logged_without_the_others(launched):
    """One that is whole everywhere is; of others one rank learns why not, and no other waits."""
    for found in launched.of("sharded_logs"):
        logged = [metrics["whole"] for metrics in found["events"] if "whole" in metrics]
        if not found["alone"]:
            assert (logged, found["rejected"]) == ([], {})
            continue
        assert logged == [3.0, 3.0]
        assert found["history"] == ["epoch", "step", "whole"]
        assert found["rejected"].keys() == {"sum", "part"}
        assert all("log its full_tensor()" in why for why in found["rejected"].values())


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def checkpoint(launched, tmp_path):
    """A copy of a checkpoint of several processes, to be damaged."""
    source = launched.folder / "source" / "checkpoint-4"
    return Path(shutil.copytree(source, tmp_path / "out" / "checkpoint-4"))


def resume(folder, checkpoint):
    """Go on with a checkpoint, in one process."""
    with shard_trials.resumable(folder, World()) as trainer:
        trainer.train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("kind", ["model", "optimizer"])
def test_a_damaged_shard_is_named(checkpoint, launched, tmp_path, kind):
    """One byte that differs, or a file that is missing, with or without a manifest."""
    name = f"{kind}_rank{launched.size - 1}-of-{launched.size}.safetensors"
    content = bytearray((checkpoint / name).read_bytes())
    content[-1] ^= 1
    (checkpoint / name).write_bytes(content)
    with pytest.raises(runtime.CheckpointError, match=f"{name} differs from what was written"):
        resume(tmp_path, checkpoint)
    (checkpoint / name).unlink()
    (checkpoint / "manifest.json").unlink()
    with pytest.raises(runtime.CheckpointError, match=f"{name} is missing"):
        resume(tmp_path, checkpoint)


@pytest.mark.parametrize("name", [".metadata", "optimizer.pt", "training_args.bin"])
def test_a_planted_pickle_is_not_executed(checkpoint, tmp_path, name):
    """Neither where torch's own sharded checkpoints have one, nor in place of a file of ours."""
    with (checkpoint / name).open("wb") as file:
        torch.save(Hostile(tmp_path / "executed"), file)
    if name == "optimizer.pt":
        with pytest.raises(runtime.CheckpointError, match=f"{name} "):
            resume(tmp_path, checkpoint)
        (checkpoint / "manifest.json").unlink()
        with pytest.raises(runtime.CheckpointError, match="would run code when loaded"):
            resume(tmp_path, checkpoint)
    else:
        resume(tmp_path, checkpoint)
    assert not (tmp_path / "executed").exists()
    torch.load(checkpoint / name, weights_only=False)  # which the planted file would have done
    assert (tmp_path / "executed").exists()
