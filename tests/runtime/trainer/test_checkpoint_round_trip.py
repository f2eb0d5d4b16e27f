"""What is saved comes back, bit by bit, under the names Transformers gives it."""

import fractions
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_errors import MismatchedWeightsError, UnsavableStateError
from runtime._checkpoint_load import load_checkpoint, load_weights, verify
from runtime._checkpoints import Checkpoints
from runtime._rng import RngState

CPU = torch.device("cpu")


class Tied(nn.Module):
    """An input embedding that is the output layer too, with a buffer."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(11, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens):
        return self.head(self.norm(self.wte(tokens)))


@pytest.fixture(params=[True, False], ids=["asynchronous", "synchronous"])
def save(request, tmp_path):
    """Save contents as one checkpoint and return its folder; a failure fails the test."""
    failures = []
    checkpoints = Checkpoints(
        tmp_path,
        limit=None,
        asynchronous=request.param,
        complete=lambda _: None,
        failed=lambda _, error: failures.append(error),
    )

    def run(step=1, **contents):
        contents = {"state": lambda: "{}", "model": {}, **contents}
        path = checkpoints.save(CheckpointContents(**contents), step=step, best=None)
        assert checkpoints.wait(10)
        assert not failures
        verify(path)
        return path

    yield run
    checkpoints.close(10)


def trained(model=None):
    """A model, its optimizer and scheduler after some steps."""
    torch.manual_seed(3)
    model = model or Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(3):
        model(torch.randint(11, (8,))).square().mean().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return model, optimizer, scheduler


def same(left, right):
    """Whether nested states are equal in structure, types and bits."""
    if isinstance(left, torch.Tensor):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and bits(left) == bits(right)
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def test_a_whole_training(save):
    """Weights, optimizer, scheduler, generators and texts are those that were saved."""
    model, optimizer, scheduler = trained()
    rng = RngState.capture()
    loop = {"loss": torch.tensor(1.5), "seen": [1, (2, None)], "name": "x"}
    path = save(
        model=model.state_dict(keep_vars=True),
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        scaler={"scale": torch.tensor(65536.0), "growth_factor": 2.0},
        rng=rng,
        epoch_start=rng,
        loop=loop,
        state=lambda: json.dumps({"global_step": 3}),
        arguments=json.dumps({"seed": 1}),
    )
    assert {each.name for each in path.iterdir()} == {
        "model.safetensors", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth",
        "loop.pt", "trainer_state.json", "training_args.json", "manifest.json",
    }  # fmt: skip
    loaded = load_checkpoint(path, device=CPU)
    assert loaded.model.keys() == model.state_dict().keys()
    assert all(same(each, loaded.model[name]) for name, each in model.state_dict().items())
    assert same(optimizer.state_dict(), loaded.optimizer)
    assert same(scheduler.state_dict(), loaded.scheduler)
    assert loaded.scaler == {"scale": 65536.0, "growth_factor": 2.0}
    assert same(loop, loaded.loop)
    assert same(rng.to_dict(), loaded.rng.to_dict())
    assert same(rng.to_dict(), loaded.epoch_start.to_dict())
    assert (loaded.state, loaded.arguments) == ({"global_step": 3}, {"seed": 1})


def test_training_goes_on_bit_equally(save):
    """A training that was loaded takes the steps of the one that was saved."""
    model, optimizer, scheduler = trained()
    path = save(
        model=model.state_dict(keep_vars=True),
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        rng=RngState.capture(),
    )
    tokens = torch.randint(11, (8,))
    other = Tied()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.5)
    loaded = load_checkpoint(path, device=CPU)
    load_weights(other, loaded.model)
    other_optimizer.load_state_dict(loaded.optimizer)
    loaded.rng.restore()
    assert torch.equal(torch.randint(11, (8,)), tokens)
    for each, its in ((model, optimizer), (other, other_optimizer)):
        each(tokens).square().mean().backward()
        its.step()
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_tied_weights(save):
    """A tied tensor is stored once, named in the metadata, and comes back as one tensor."""
    model = Tied()
    path = save(model=model.state_dict())
    with safetensors.safe_open(path / "model.safetensors", "pt") as file:
        assert "wte.weight" in file.keys()  # noqa: SIM118 - no mapping
        assert "head.weight" not in file.keys()  # noqa: SIM118
        assert file.metadata() == {"format": "pt", "head.weight": "wte.weight"}
    loaded = load_checkpoint(path, device=CPU).model
    assert loaded["head.weight"] is loaded["wte.weight"]
    other = Tied()
    load_weights(other, loaded)
    assert other.head.weight is other.wte.weight
    assert torch.equal(other.wte.weight, model.wte.weight)


def test_safetensors_reads_tied_weights(save):
    """`safetensors.torch.load_model` loads what was saved here."""
    model = Tied()
    path = save(model=model.state_dict())
    other = Tied()
    safetensors.torch.load_model(other, path / "model.safetensors")
    assert torch.equal(other.head.weight, model.head.weight)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 5).to(torch.bfloat16),
        torch.randn(3).to(torch.float8_e4m3fn),
        torch.tensor(7.0),
        torch.tensor(9, dtype=torch.int64),
        torch.randn(4, 6).t(),
        torch.randn(8, 8)[::2, 1::3],
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.ones(1, 4).expand(3, 4),
        torch.empty(0, 3),
        torch.tensor([True, False]),
        torch.tensor([float("nan"), float("inf"), -0.0]),
        torch.randn(3, dtype=torch.complex64),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{list(tensor.shape)}-{tensor.stride()}",
)
def test_any_tensor(save, tensor):
    """Every dtype, shape and memory layout comes back with its bits, and again in a second save."""
    for step in (1, 2):
        path = save(step, model={"t": tensor}, optimizer={"state": {0: {"exp_avg": tensor}}})
        loaded = load_checkpoint(path, device=CPU)
        for found in (loaded.model["t"], loaded.optimizer["state"][0]["exp_avg"]):
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert bits(found) == bits(tensor)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).tolist() if tensor.dim() else tensor.item()


def test_empty_state(save):
    """A model without parameters has a checkpoint too."""
    path = save(model=nn.Identity().state_dict(), optimizer={"state": {}, "param_groups": []})
    loaded = load_checkpoint(path, device=CPU)
    assert loaded.model == {}
    assert loaded.optimizer == {"state": {}, "param_groups": []}
    assert (loaded.scheduler, loaded.scaler, loaded.rng, loaded.loop) == (None, None, None, {})


def test_views_of_one_storage(save):
    """Tensors that overlap without being equal are each saved whole."""
    whole = torch.arange(12.0)
    path = save(model={"whole": whole, "part": whole[3:7], "rest": whole[5:]})
    loaded = load_checkpoint(path, device=CPU).model
    assert loaded["whole"].tolist() == whole.tolist()
    assert loaded["part"].tolist() == whole[3:7].tolist()
    assert loaded["rest"].tolist() == whole[5:].tolist()


def test_state_of_changing_shape(save):
    """Buffers that no longer fit are replaced, not written past."""
    for step, size in enumerate((5, 9, 2), start=1):
        values = torch.randn(size)
        path = save(step, model={"t": values})
        assert torch.equal(load_checkpoint(path, device=CPU).model["t"], values)


def test_further_files(save):
    """What `extras` writes, in folders too, belongs to the checkpoint and its manifest."""

    def extras(folder):
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.txt").write_text("a b")

    path = save(extras=extras)
    named = json.loads((path / "manifest.json").read_text())["files"]
    assert {"config.json", "tokenizer/vocab.txt", "model.safetensors"} <= named.keys()
    assert (path / "tokenizer" / "vocab.txt").read_text() == "a b"


def test_readable_by_whom_other_files_are(save):
    """The weights have the permissions that files get here."""
    path = save()
    assert len({each.stat().st_mode for each in path.iterdir()}) == 1


def test_saved_again_at_the_same_step(save):
    """A checkpoint of the same step replaces the older one as a whole."""
    save(5, model={"t": torch.zeros(3)}, loop={"old": 1})
    path = save(5, model={"t": torch.ones(3)})
    assert load_checkpoint(path, device=CPU).model["t"].tolist() == [1, 1, 1]
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint-5"]
    assert not (path / "loop.pt").exists()


class TestUnsavable:
    """A state that could not be loaded without running code is refused when it is saved."""

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (torch.empty(3, device="meta"), "meta device"),
            (torch.eye(3).to_sparse(), "not dense"),
            (nn.LazyLinear(3).weight, "no shape yet"),
            ("text", "a str among the weights"),
        ],
    )
    def test_weights(self, save, value, said):
        """Named when `save` is called."""
        with pytest.raises(UnsavableStateError, match=f"model.layer.w cannot be saved.*{said}"):
            save(model={"layer.w": value})

    def test_optimizer_tensors(self, save):
        """Named with their place in the tree."""
        with pytest.raises(UnsavableStateError, match=r"optimizer\.state\.0\.m cannot"):
            save(optimizer={"state": {0: {"m": torch.empty(3, device="meta")}}})

    def test_objects(self, tmp_path):
        """An object in the optimizer's state is told when the file is written."""
        failures = []
        checkpoints = Checkpoints(
            tmp_path,
            limit=None,
            asynchronous=True,
            complete=lambda _: None,
            failed=lambda path, error: failures.append((path.name, error)),
        )
        contents = CheckpointContents(
            model={}, state=lambda: "{}", optimizer={"history": fractions.Fraction(1, 3)}
        )
        checkpoints.save(contents, step=1, best=None)
        assert checkpoints.close(10)
        [(name, error)] = failures
        assert name == "checkpoint-1"
        assert isinstance(error, UnsavableStateError)
        assert "optimizer cannot be saved" in str(error)
        assert "fractions.Fraction" in str(error)
        assert not list(tmp_path.iterdir())


class TestLoadWeights:
    """Weights go into the model they belong to, or nowhere."""

    def test_names_that_transformers_leaves_out(self):
        """A tied name may be missing."""
        model, other = Tied(), Tied()
        weights = {k: v for k, v in model.state_dict().items() if k != "wte.weight"}
        load_weights(other, weights)
        assert torch.equal(other.wte.weight, model.wte.weight)

    def test_another_model(self):
        """What is missing, unexpected and of another shape is named, and nothing is loaded."""
        model = nn.Linear(2, 3)
        before = {name: each.clone() for name, each in model.state_dict().items()}
        with pytest.raises(MismatchedWeightsError) as caught:
            load_weights(model, {"weight": torch.ones(4, 4), "extra": torch.ones(1)})
        assert caught.value.missing == ("bias",)
        assert caught.value.unexpected == ("extra",)
        assert caught.value.differing == ("weight ([4, 4] instead of [3, 2])",)
        assert "missing: bias; unexpected: extra; of another shape: weight" in str(caught.value)
        assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    """Snapshots of a CUDA device are of the moment of the save, and no host waits for them."""

    def test_a_training(self, save):
        """Weights, buffers and optimizer state come back from the device and to it."""
        model = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512)).cuda()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        model(torch.randn(8, 512, device="cuda")).sum().backward()
        optimizer.step()
        expected = {name: each.clone() for name, each in model.state_dict().items()}
        path = save(model=model.state_dict(keep_vars=True), optimizer=optimizer.state_dict())
        loaded = load_checkpoint(path, device=torch.device("cuda"))
        assert all(torch.equal(each, loaded.model[name]) for name, each in expected.items())
        moment = optimizer.state_dict()["state"][0]["exp_avg"]
        assert torch.equal(loaded.optimizer["state"][0]["exp_avg"], moment.cpu())

    def test_two_saves_without_an_update_between(self, save):
        """The second save holds what was enqueued after the first."""
        weight = nn.Parameter(torch.zeros(1 << 20, device="cuda"))
        save(1, model={"w": weight})
        torch.cuda._sleep(200_000_000)
        with torch.no_grad():
            weight.add_(1)
        path = save(2, model={"w": weight})
        assert load_checkpoint(path, device=CPU).model["w"].unique().tolist() == [1]

    def test_the_host_does_not_wait(self, tmp_path):
        """`save` returns while the device is busy, and what follows waits on the device."""
        checkpoints = Checkpoints(
            tmp_path,
            limit=None,
            asynchronous=True,
            complete=lambda _: None,
            failed=lambda _, error: pytest.fail(str(error)),
        )
        weight = nn.Parameter(torch.zeros(1 << 20, device="cuda"))
        contents = CheckpointContents(model={"w": weight}, state=lambda: "{}")
        checkpoints.save(contents, step=1, best=None)  # makes the stream and the buffers
        assert checkpoints.wait(10)
        torch.cuda.set_sync_debug_mode("error")
        try:
            torch.cuda._sleep(500_000_000)
            with torch.no_grad():
                weight.add_(1)
            path = checkpoints.save(contents, step=2, best=None)
            assert not torch.cuda.current_stream().query()
            checkpoints.before_update()
            with torch.no_grad():
                weight.fill_(9)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert checkpoints.close(10)
        assert load_checkpoint(path, device=CPU).model["w"].unique().tolist() == [1]
