"""How shards are cut, written together and read again, without a process group."""

import itertools
import threading

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed import HashStore

from runtime._boxes import Box
from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_errors import DamagedCheckpointError
from runtime._checkpoint_files import rank_file
from runtime._checkpoint_pieces import Pieces, read_model
from runtime._checkpoint_shards import Shard
from runtime._checkpoints import Checkpoints
from runtime._rank_shards import RankShards
from runtime._sharding import blocks_of
from runtime._sharding_options import ShardingOptions, sharding_options
from tests.runtime.trainer.shard_trials import Net
from tests.waiting import HANG

HOST = torch.device("cpu")


def part(whole, rank, size):
    """What a rank holds of a tensor, cut along its first dimension as torch cuts it."""
    length = -(-len(whole) // size)
    begin = min(rank * length, len(whole))
    piece = whole[begin : begin + length]
    offset = (begin, *[0] * (whole.dim() - 1))
    return piece, Box(offset, tuple(piece.shape), tuple(whole.shape))


def weights():
    """Tensors of which some ranks have nothing, and one that nobody shards."""
    return {
        "wide": torch.arange(21.0).view(7, 3),
        "short": torch.arange(2, dtype=torch.bfloat16),
        "count": torch.tensor(5),
    }


class Ranks:
    """Several ranks of a job, each with its writer, in one process.

    Attributes:
        failed: What each rank could not save, and why.
        complete: Checkpoints that are visible, as the first rank says.
    """

    def __init__(self, folder, size, *, patience=HANG, elsewhere=None):
        store, self.size = HashStore(), size
        self.failed, self.complete = {}, []
        self.shards = [
            RankShards(store, rank, size, patience=patience, given_up=threading.Event())
            for rank in range(size)
        ]
        folders = dict.fromkeys(range(size), folder) | (elsewhere or {})
        self.checkpoints = [self._checkpoints(*each) for each in folders.items()]

    def _checkpoints(self, rank, folder):
        return Checkpoints(
            folder,
            limit=None,
            asynchronous=True,
            complete=self.complete.append,
            failed=lambda _, error: self.failed.update({rank: error}),
        )

    def save(self, step, *, state=str, silent=()):
        """Save a checkpoint as all ranks do, those apart that have died."""
        for rank, checkpoints in enumerate(self.checkpoints):
            turn = self.shards[rank].turn()
            if rank in silent:
                continue
            whole = weights()
            cut = {name: part(each, rank, self.size) for name, each in whole.items() if each.dim()}
            boxes = {f"model.{name}": box for name, (_, box) in cut.items()}
            own = {name: piece.clone() for name, (piece, _) in cut.items()}
            if not rank:
                own["count"] = whole["count"]
            shard = Shard(rank=rank, size=self.size, boxes=boxes, tied={"alias": "wide"}, turn=turn)
            contents = CheckpointContents(model=own, state=state, shard=shard)
            checkpoints.save(contents, step=step, best=None)
        for checkpoints in self.checkpoints:
            assert checkpoints.wait(HANG)


def left(folder):
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [2, 4])
def test_any_part_can_be_read(tmp_path, size):
    """As other numbers of processes hold it, and all of it, under each of its names."""
    ranks = Ranks(tmp_path, size)
    ranks.save(3)
    assert ranks.failed == {}
    (saved,) = ranks.complete
    files = [rank_file("model", rank, size) for rank in range(size)]
    with Pieces(saved.path, files) as pieces:
        for name, whole in weights().items():
            assert torch.equal(pieces.read(name), whole)
            for parts, rank in itertools.product((1, 2, 3, 8), range(8)):
                if whole.dim() and rank < parts:
                    expected, box = part(whole, rank, parts)
                    found = pieces.read(name, box)
                    assert torch.equal(found, expected)
                    assert found.dtype == whole.dtype
    assert torch.equal(read_model(saved.path, device=HOST)["alias"], weights()["wide"])


def test_a_disk_that_is_not_shared_is_told(tmp_path):
    """By the rank that does not see the folder, and by the first one with its words."""
    ranks = Ranks(tmp_path / "here", 3, elsewhere={1: tmp_path / "there"})
    ranks.save(1)
    assert {0, 1} <= ranks.failed.keys()  # and rank 2, if it comes after the folder is gone
    assert "put output_dir on a disk that all machines share" in str(ranks.failed[1])
    assert "rank 1 could not write its part: FileNotFoundError" in str(ranks.failed[0])
    assert left(tmp_path / "here") == []


def test_a_first_rank_that_fails_tells_the_others(tmp_path):
    """At once, so that nobody waits until patience ends."""
    (tmp_path / "file").touch()
    ranks = Ranks(tmp_path, 3, elsewhere={0: tmp_path / "file"})
    ranks.save(1)
    assert all("rank 0 could not write its part" in str(ranks.failed[rank]) for rank in (1, 2))


def test_nothing_is_visible_of_a_checkpoint_that_failed(tmp_path):
    """Whoever failed; the next one is complete."""
    ranks = Ranks(tmp_path, 3)

    def full():
        raise OSError("no space is left")

    ranks.save(1, state=full)
    assert "no space is left" in str(ranks.failed[0])
    ranks.save(2)
    assert [saved.step for saved in ranks.complete] == [2]
    assert "checkpoint-1" not in left(tmp_path)


def test_a_rank_that_is_silent_is_named(tmp_path):
    """A checkpoint without it would not be whole."""
    ranks = Ranks(tmp_path, 2, patience=0.05)
    ranks.save(1, silent=[1])
    assert "rank 1 has not handed over its part" in str(ranks.failed[0])
    assert not ranks.complete


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"pieces": {"a": [[9], [4]]}, "tied": {}}', "none of a tensor of size"),
        ('{"pieces": {"a": [[0, 0], [4]]}, "tied": {}}', "none of a tensor of size"),
        ('{"pieces": {"a": [[-1], [4]]}, "tied": {}}', "does not tell its parts"),
        ('{"pieces": [], "tied": {}}', "does not tell its parts"),
        ("nonsense", "does not tell its parts"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, header, words):
    """Before any memory is taken for what it says."""
    name = rank_file("model", 0, 1)
    save_file({"a": torch.ones(2)}, tmp_path / name, metadata={"shard": header})
    with pytest.raises(DamagedCheckpointError, match=words):
        read_model(tmp_path, device=HOST)


def test_a_part_that_nobody_has_is_told(tmp_path):
    """A whole that is larger than its parts, however large it says that it is."""
    name, header = rank_file("model", 0, 1), '{"pieces": {"a": [[0], [1000000000000]]}, "tied": {}}'
    save_file({"a": torch.ones(2)}, tmp_path / name, metadata={"shard": header})
    with pytest.raises(DamagedCheckpointError, match="holds a part of a, and no other file"):
        read_model(tmp_path, device=HOST)


@pytest.mark.parametrize(
    ("fsdp", "config", "expected"),
    [
        (False, {"min_num_params": 1}, None),
        ("", None, None),
        (True, None, ShardingOptions()),
        ("true", None, ShardingOptions()),
        (
            "shard_grad_op auto_wrap offload",
            {"fsdp_transformer_layer_cls_to_wrap": "A, B", "xla": False, "fsdp_version": 2},
            ShardingOptions(
                transformer_layer_cls_to_wrap=("A", "B"),
                reshard_after_forward=False,
                cpu_offload=True,
            ),
        ),
        (
            ["full_shard"],
            {"reshard_after_forward": "false", "min_num_params": 7},
            ShardingOptions(reshard_after_forward=False, min_num_params=7),
        ),
    ],
)
def test_options_are_upstreams(fsdp, config, expected):
    """Its older words, its keys with their prefix, its texts for booleans."""
    assert sharding_options(fsdp, config) == expected


@pytest.mark.parametrize(
    ("fsdp", "config", "words"),
    [
        ("hybrid_shard", None, "all ranks share one copy of the model; write fsdp=True"),
        ("no_shard", None, "leave fsdp out"),
        ("nonsense", None, "'nonsense', which is no 'full_shard'"),
        (True, {"version": 1}, "FSDP1 is not served"),
        (True, {"use_orig_params": True}, "is of FSDP1; leave it out"),
        (True, {"xla": True}, "there is no XLA here"),
        (True, {"state_dict_type": "FULL_STATE_DICT"}, r"let save_model\(\) write the whole"),
        (True, {"layer": "A"}, "'layer'] is no setting; there are version"),
        (True, {"min_num_params": -1}, "greater than or equal to 0"),
        (True, "/nowhere/fsdp.json", "cannot be read as a file of JSON"),
    ],
)
def test_what_is_of_fsdp1_is_refused(fsdp, config, words):
    """With what to write instead."""
    with pytest.raises(ValueError, match=words):
        sharding_options(fsdp, config)


def test_blocks_are_found_by_class_and_by_size():
    """Inner ones first; tied weights stay with the model; a class that is not there is named."""
    model = Net()
    names = {id(module): name for name, module in model.named_modules()}

    def found(**options):
        return [names[id(each)] for each in blocks_of(model, ShardingOptions(**options))]

    assert found(transformer_layer_cls_to_wrap=("Block",)) == ["blocks.1", "blocks.0"]
    assert found(min_num_params=60) == ["blocks.1", "blocks.0"]
    assert found(min_num_params=30) == [
        "blocks.1.outer",
        "blocks.1.inner",
        "blocks.0.outer",
        "blocks.0.inner",
    ]
    assert found(transformer_layer_cls_to_wrap=("Linear",), auto_wrap_policy="NO_WRAP") == []
    tied = found(transformer_layer_cls_to_wrap=("Linear",))
    assert "head" in tied
    assert not {"first", "last"} & {*tied}
    assert found() == []
    with pytest.raises(
        ValueError, match="names Layer, and Net has no such block; it has BatchNorm"
    ):
        found(transformer_layer_cls_to_wrap=("Layer",))
