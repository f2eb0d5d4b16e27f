"""Damaged and hostile checkpoints are named and never executed; resuming falls back."""

import json
import logging
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    UnsafeCheckpointError,
)
from runtime._checkpoint_load import last_good_checkpoint, load_checkpoint, verify
from runtime._checkpoints import Checkpoints
from runtime._rng import RngState

CPU = torch.device("cpu")
OURS = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
    "loop.pt",
    "trainer_state.json",
    "training_args.json",
)


class Hostile:
    """Would make a file if it were unpickled without care."""

    def __init__(self, target):
        self._target = target

    def __reduce__(self):
        return Path.touch, (self._target,)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with the checkpoints 10, 20 and 30."""
    folder = tmp_path_factory.mktemp("original")
    checkpoints = Checkpoints(
        folder,
        limit=None,
        asynchronous=False,
        complete=lambda _: None,
        failed=lambda _, error: pytest.fail(str(error)),
    )
    for step in (10, 20, 30):
        contents = CheckpointContents(
            model={"w": torch.full((40, 50), float(step)), "b": torch.zeros(3)},
            optimizer={"state": {0: {"m": torch.randn(40, 50)}}, "param_groups": [{"lr": 0.1}]},
            scheduler={"last_epoch": step},
            scaler={"scale": 2.0},
            rng=RngState.capture(),
            loop={"loss": torch.tensor(1.0)},
            state=lambda: json.dumps({"best_metric": float("inf")}),
            arguments="{}",
        )
        checkpoints.save(contents, step=step, best=None)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "out")


@pytest.fixture
def newest(folder):
    return folder / "checkpoint-30"


@pytest.fixture
def foreign(newest):
    """A checkpoint without a manifest, such as Transformers writes."""
    (newest / "manifest.json").unlink()
    return newest


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def make_folder(file):
    file.unlink()
    file.mkdir()


def test_whole_ones_pass(original):
    """Nothing is wrong with what was written."""
    for step in (10, 20, 30):
        verify(original / f"checkpoint-{step}")
    assert last_good_checkpoint(original) == original / "checkpoint-30"


class TestDamage:
    """With a manifest, whatever is wrong with any file is found and the file is named."""

    @pytest.mark.parametrize("name", OURS)
    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (Path.unlink, "is missing"),
            (truncate, "is cut off: it has"),
            (flip, "differs from what was written"),
            (lambda file: file.write_bytes(file.read_bytes() + b"\n"), "is too long"),
            (make_folder, "is not a file"),
        ],
        ids=["missing", "truncated", "flipped", "longer", "folder"],
    )
    def test_named(self, newest, name, damage, said):
        damage(newest / name)
        with pytest.raises(DamagedCheckpointError, match=said) as caught:
            load_checkpoint(newest, device=CPU)
        assert (caught.value.path, caught.value.file) == (newest, name)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {}}', '{"v": 2, "step": 1}'])
    def test_manifest(self, newest, text):
        """A manifest that is none is damage, not a reason to trust the files."""
        (newest / "manifest.json").write_text(text)
        with pytest.raises(DamagedCheckpointError, match=r"manifest\.json is no manifest"):
            verify(newest)

    def test_manifest_that_leaves_the_checkpoint(self, newest):
        """A manifest cannot make another file be read."""
        manifest = json.loads((newest / "manifest.json").read_text())
        manifest["files"]["../../secret"] = {"size": 1, "sha256": ""}
        (newest / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(UnsafeCheckpointError, match=r"names '\.\./\.\./secret', outside"):
            verify(newest)

    def test_falls_back(self, folder, caplog):
        """The newest whole checkpoint is found; each damaged one before it is named."""
        truncate(folder / "checkpoint-30" / "optimizer.pt")
        flip(folder / "checkpoint-20" / "model.safetensors")
        with caplog.at_level(logging.WARNING, "runtime"):
            assert last_good_checkpoint(folder) == folder / "checkpoint-10"
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 2
        assert "checkpoint-30 is damaged: optimizer.pt is cut off" in told[0]
        assert "checkpoint-20 is damaged: model.safetensors differs" in told[1]

    def test_nothing_to_fall_back_to(self, folder):
        """None, not an error, says that there is no whole checkpoint."""
        for path in folder.iterdir():
            (path / "model.safetensors").unlink()
        assert last_good_checkpoint(folder) is None
        assert last_good_checkpoint(folder / "nowhere") is None

    def test_not_there(self, folder):
        """A path without a checkpoint says so."""
        with pytest.raises(CheckpointNotFoundError, match="there is no such folder"):
            load_checkpoint(folder / "checkpoint-99", device=CPU)
        (folder / "checkpoint-40").mkdir()
        with pytest.raises(CheckpointNotFoundError, match=r"it has none of model\.safetensors"):
            load_checkpoint(folder / "checkpoint-40", device=CPU)


class TestForeign:
    """Without a manifest, a checkpoint is checked as far as its files allow."""

    def test_loads(self, foreign):
        assert load_checkpoint(foreign, device=CPU).model["w"].unique().tolist() == [30]

    @pytest.mark.parametrize("name", [name for name in OURS if name not in OURS[5:]])
    def test_truncated(self, foreign, name):
        truncate(foreign / name)
        with pytest.raises(DamagedCheckpointError) as caught:
            verify(foreign)
        assert caught.value.file == name

    @pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth"])
    def test_flipped(self, foreign, name):
        """Torch's archives keep checksums."""
        flip(foreign / name)
        with pytest.raises(DamagedCheckpointError, match=name):
            verify(foreign)

    @pytest.mark.parametrize(
        "content", [b"", b"junk" * 99, b"\x80\x02junk", b"\xff" * 99, b"PK\x03\x04"]
    )
    @pytest.mark.parametrize("name", OURS)
    def test_junk(self, foreign, name, content):
        """Whatever bytes a file has, the error names it."""
        (foreign / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(foreign, device=CPU)

    def test_compressed(self, foreign):
        """An archive whose members swell when read is refused before it is read."""
        with zipfile.ZipFile(foreign / "optimizer.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(1 << 20))
        with pytest.raises(UnsafeCheckpointError, match="is compressed"):
            load_checkpoint(foreign, device=CPU)

    def test_deep_json(self, foreign):
        (foreign / "trainer_state.json").write_text("[" * 100_000)
        with pytest.raises(DamagedCheckpointError, match=r"trainer_state\.json is not JSON"):
            load_checkpoint(foreign, device=CPU)

    def test_generators_missing(self, foreign):
        torch.save({"python": 1}, foreign / "rng_state.pth")
        with pytest.raises(DamagedCheckpointError, match="numpy, cpu is missing"):
            load_checkpoint(foreign, device=CPU)

    def test_not_by_name(self, foreign):
        torch.save([1], foreign / "optimizer.pt")
        with pytest.raises(DamagedCheckpointError, match="holds a list, not a dictionary"):
            load_checkpoint(foreign, device=CPU)


class TestHostile:
    """A pickle that would run code is refused by name and does not run."""

    @pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
    @pytest.mark.parametrize(
        "name", ["optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "loop.pt"]
    )
    def test_planted(self, foreign, tmp_path, name, form):
        target = tmp_path / "executed"
        plant(foreign / name, {"state": Hostile(target)}, form)
        with pytest.raises(UnsafeCheckpointError, match="would run code when loaded") as caught:
            load_checkpoint(foreign, device=CPU)
        assert (caught.value.path, caught.value.file) == (foreign, name)
        assert not target.exists()

    @pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
    def test_weights(self, foreign, tmp_path, form):
        """Old weights are pickles too."""
        (foreign / "model.safetensors").unlink()
        plant(foreign / "pytorch_model.bin", {"w": Hostile(tmp_path / "executed")}, form)
        with pytest.raises(UnsafeCheckpointError, match=r"pytorch_model\.bin would run code"):
            load_checkpoint(foreign, device=CPU)
        assert not (tmp_path / "executed").exists()

    def test_training_arguments(self, foreign, tmp_path, caplog):
        """`training_args.bin` is not even opened; that is told."""
        plant(foreign / "training_args.bin", Hostile(tmp_path / "executed"), "pickle")
        (foreign / "training_args.json").unlink()
        with caplog.at_level(logging.INFO, "runtime"):
            assert load_checkpoint(foreign, device=CPU).arguments is None
        assert "training_args.bin is a pickle and is not read" in caplog.text
        assert not (tmp_path / "executed").exists()

    def test_behind_a_manifest(self, newest, tmp_path):
        """A manifest that fits the hostile file does not make it safe."""
        plant(newest / "optimizer.pt", Hostile(tmp_path / "executed"), "archive")
        with pytest.raises(UnsafeCheckpointError, match=r"optimizer\.pt"):
            load_checkpoint(newest, device=CPU, verified=True)
        assert not (tmp_path / "executed").exists()

    def test_scripted_model(self, foreign):
        """A TorchScript archive is a program."""
        torch.jit.ScriptModule().save(str(foreign / "optimizer.pt"))
        with pytest.raises(UnsafeCheckpointError, match="TorchScript"):
            load_checkpoint(foreign, device=CPU)


def plant(file, value, form):
    if form == "pickle":
        file.write_bytes(pickle.dumps(value, protocol=2))
    else:
        torch.save(value, file, _use_new_zipfile_serialization=form == "archive")


class TestOtherFormats:
    """Weights as Transformers writes and wrote them."""

    def test_old_weights(self, foreign):
        (foreign / "model.safetensors").unlink()
        torch.save({"w": torch.ones(2)}, foreign / "pytorch_model.bin")
        assert load_checkpoint(foreign, device=CPU).model["w"].tolist() == [1, 1]

    @pytest.mark.parametrize("suffix", ["safetensors", "bin"])
    def test_shards(self, foreign, suffix):
        shards = write_shards(foreign, suffix)
        verify(foreign)
        loaded = load_checkpoint(foreign, device=CPU).model
        assert {name: each.tolist() for name, each in loaded.items()} == {"a": [1], "b": [2]}
        (foreign / shards[1]).unlink()
        with pytest.raises(DamagedCheckpointError, match=f"{shards[1]} is missing, though"):
            verify(foreign)

    @pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "..", "a/b"])
    def test_shards_outside(self, foreign, shard):
        """An index cannot make another file be read."""
        write_shards(foreign, "safetensors")
        index = {"weight_map": {"a": shard}}
        (foreign / "model.safetensors.index.json").write_text(json.dumps(index))
        for look in (verify, lambda path: load_checkpoint(path, device=CPU, verified=True)):
            with pytest.raises(UnsafeCheckpointError, match="outside the checkpoint"):
                look(foreign)

    @pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": 1}', "[]", "x"])
    def test_index_that_is_none(self, foreign, index):
        write_shards(foreign, "safetensors")
        (foreign / "model.safetensors.index.json").write_text(index)
        with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors\.index\.json"):
            verify(foreign)


def write_shards(folder, suffix):
    """Replace the weights by two shards and an index."""
    (folder / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    shards = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    for value, (name, shard) in enumerate(zip("ab", shards, strict=True), start=1):
        tensors = {name: torch.tensor([value])}
        if suffix == "bin":
            torch.save(tensors, folder / shard)
        else:
            safetensors.torch.save_file(tensors, folder / shard)
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return shards
