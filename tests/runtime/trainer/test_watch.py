"""Watching a model: the numbers are right, and taking them reads nothing back from the device."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import runtime
from bus import HistogramLogged, JournalReader, MetricsLogged
from bus.testing import JournalAsserter
from runtime._watch_statistics import BINS, edges, histogram, norms, total_norm

READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "bincount", "unique")


class HostReads(TorchDispatchMode):
    """Counts what would wait for the device: reads of values, and copies to the host."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note the operator, then run it."""
        del types
        self.calls += 1
        name = func.overloadpacket.__name__
        moves = str((kwargs or {}).get("device")) == "cpu" and name in {"_to_copy", "to"}
        if name in READS or moves:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Later:
    """A device whose values are read on the writer's thread only."""

    def take(self, tensors):
        """Keep the tensors."""
        self._tensors = dict(tensors)
        return self

    def ready(self):
        """At once."""
        return True

    def values(self):
        """Read them."""
        return {key: float(each) for key, each in self._tensors.items()}


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))


def backward(model, seed=1):
    model.zero_grad()
    batch = torch.randn(32, 8, generator=torch.Generator().manual_seed(seed))
    model(batch).square().mean().backward()


@pytest.fixture
def new_run(tmp_path):
    """Make runs in a temporary folder; those still open are closed after the test."""
    made = []

    def make(**options):
        run = runtime.Run("gpt", dir=tmp_path, close_timeout=10, **options)
        made.append(run)
        return run

    yield make
    for run in made:
        run.close(timeout=2)


def events(run, kind):
    run.close()
    return [record.event for record in JournalReader(run.dir).records(types=(kind,))]


class TestNorms:
    def test_gradients(self, new_run):
        """The norm of each parameter's gradient and of all together, as computed plainly."""
        run, model = new_run(), network()
        backward(model)
        run.watch(model, every=1).sample(3)
        (event,) = events(run, MetricsLogged)

        plain = {name: each.grad.norm().item() for name, each in model.named_parameters()}
        assert event.step == 3
        assert event.metrics.pop("gradients/norm") == pytest.approx(math.hypot(*plain.values()))
        assert event.metrics == {
            f"gradients/norm/{name}": pytest.approx(norm) for name, norm in plain.items()
        }

    def test_the_total_is_what_clipping_measures(self, new_run):
        """To the bit: one may stand for the other in a plot."""
        run, model = new_run(), network()
        backward(model)
        run.watch(model, every=1).sample(1)
        clipped = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9).item()

        assert events(run, MetricsLogged)[0].metrics["gradients/norm"] == clipped

    def test_parameters(self, new_run):
        """Weights are watched by choice, without gradients if that is the choice."""
        run, model = new_run(), network()
        run.watch(model, every=1, gradients=False, parameters=True).sample(1)
        (event,) = events(run, MetricsLogged)

        plain = {name: each.norm().item() for name, each in model.named_parameters()}
        assert event.metrics.pop("parameters/norm") == pytest.approx(math.hypot(*plain.values()))
        assert set(event.metrics) == {f"parameters/norm/{name}" for name in plain}

    def test_half_precision_is_summed_in_single(self):
        """Squares that float16 cannot hold do not overflow, small ones are not lost."""
        large = torch.full((100,), 60000.0, dtype=torch.float16)
        small = torch.full((100,), 2.0**-20, dtype=torch.bfloat16)
        found = norms({"large": large, "small": small, "double": torch.ones(4).double()})

        assert found["large"].item() == pytest.approx(600000, rel=1e-3)
        assert found["small"].item() == pytest.approx(10 * 2.0**-20)
        assert total_norm(found.values()).dtype == torch.float64

    def test_values_are_the_moments(self, new_run, tmp_path):
        """What happens to a gradient afterwards does not change its sample."""
        del tmp_path
        run, model = new_run(snapshots={"cpu": Later()}), network()
        backward(model)
        norm = math.hypot(*(each.grad.norm().item() for each in model.parameters()))
        run.watch(model, every=1).sample(1)
        for each in model.parameters():
            each.grad.zero_()

        assert events(run, MetricsLogged)[0].metrics["gradients/norm"] == pytest.approx(norm)


class TestHistograms:
    @pytest.mark.parametrize("deterministic", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_counts_are_numpys(self, dtype, deterministic):
        """As a plain computation over the same bins, whichever way it is counted."""
        values = torch.randn(40, 50, generator=torch.Generator().manual_seed(2)).to(dtype)
        torch.use_deterministic_algorithms(deterministic)
        try:
            counts, peak = histogram(values)
        finally:
            torch.use_deterministic_algorithms(mode=False)
        limits = edges(peak.item())
        expected, _ = np.histogram(values.double().numpy(), bins=limits)

        assert peak.item() == values.abs().max().item()
        assert counts.sum().item() == 2000
        assert abs(counts.numpy() - expected).sum() <= 4  # values on an edge may fall either way

    @pytest.mark.parametrize("deterministic", [False, True])
    def test_only_finite_values_count(self, deterministic):
        """NaN and infinities neither count nor stretch the bins."""
        values = torch.tensor([math.nan, math.inf, -math.inf, 2.0, -2.0, 0.5])
        torch.use_deterministic_algorithms(deterministic)
        try:
            counts, peak = histogram(values)
        finally:
            torch.use_deterministic_algorithms(mode=False)

        assert peak.item() == 2.0
        assert counts.nonzero().flatten().tolist() == [0, 40, 63]

    def test_nothing_but_zeros(self):
        """They lie beside the middle of bins that are not empty intervals."""
        counts, peak = histogram(torch.zeros(7))
        limits = edges(peak.item())

        assert counts[BINS // 2].item() == 7
        assert limits[BINS // 2] == 0
        assert limits == sorted(set(limits))

    def test_published_with_their_step(self, new_run):
        """One ordinary event for each parameter, readable by every sink."""
        run, model = new_run(), network()
        backward(model)
        run.watch(model, every=1, parameters=True, histograms=True).sample(9)
        found = events(run, HistogramLogged)

        names = [name for name, _ in model.named_parameters()]
        keys = [f"{kind}/{name}" for kind in ("gradients", "parameters") for name in names]
        assert [event.key for event in found] == keys
        assert {event.step for event in found} == {9}
        for event, each in zip(found, list(model.parameters()) * 2, strict=True):
            assert sum(event.counts) == each.numel()
            assert len(event.edges) == len(event.counts) + 1 == BINS + 1
        assert found[-1].edges[-1] == model[2].bias.abs().max().item()
        JournalAsserter(run.dir).complete().ends("finished")


class TestNothingIsRead:
    def test_sampled_steps(self, new_run):
        """Neither norms nor histograms read a value on the training thread."""
        run, model = new_run(snapshots={"cpu": Later()}), network()
        watch = run.watch(model, every=1, parameters=True, histograms=True)
        backward(model)
        with HostReads() as reads:
            watch.sample(1)
        assert reads.calls > 10
        assert reads.found == []
        assert len(events(run, HistogramLogged)) == 8

    def test_the_counter_sees_reads(self):
        """What it counts on: each of these would wait."""
        with HostReads() as reads:
            torch.ones(()).item()
            torch.ones(3).nonzero()
            float(torch.ones(()))
        assert len(reads.found) == 3

    def test_other_steps(self, new_run):
        """Between samples no operator runs at all."""
        run, model = new_run(), network()
        watch = run.watch(model, every=100, parameters=True, histograms=True)
        backward(model)
        with HostReads() as reads:
            for step in range(1, 100):
                watch.sample(step)

        assert reads.calls == 0
        assert events(run, MetricsLogged) == []

    @pytest.mark.parametrize("deterministic", [False, True])
    def test_on_a_device_whose_values_cannot_be_read(self, deterministic):
        """Torch's fake CUDA tensors have no values: whoever asks for one fails."""
        torch.use_deterministic_algorithms(deterministic)
        try:
            with FakeTensorMode():
                tensors = {
                    "a": torch.randn(3, 4, device="cuda"),
                    "b": torch.randn(5, device="cuda", dtype=torch.bfloat16),
                }
                total = total_norm(norms(tensors).values())
                counts, peak = histogram(tensors["b"])
        finally:
            torch.use_deterministic_algorithms(mode=False)

        assert {total.device.type, counts.device.type, peak.device.type} == {"cuda"}

    def test_training_is_the_same(self, new_run):
        """Weights, gradients and the random numbers are those of an unwatched loop."""

        def train(watch):
            model = network()
            optimizer = torch.optim.AdamW(model.parameters())
            for step in range(1, 6):
                backward(model, seed=step)
                watch(model, step)
                optimizer.step()
            return [*model.parameters(), torch.rand(3)]

        run = new_run()
        plain = train(lambda _model, _step: None)
        watches = {}

        def sample(model, step):
            watch = watches.setdefault(model, run.watch(model, every=2, histograms=True))
            watch.sample(step)

        assert all(torch.equal(*pair) for pair in zip(plain, train(sample), strict=True))


class TestUse:
    def test_due_steps(self, new_run):
        """Multiples of `every`, so that a resumed run goes on with the same ones."""
        run, model = new_run(), network()
        watch = run.watch(model, every=4)
        backward(model)
        for step in range(1, 13):
            watch.sample(step)

        assert [event.step for event in events(run, MetricsLogged)] == [4, 8, 12]

    def test_a_compiled_step(self, new_run):
        """A step that torch.compile has taken whole samples at every call, not once."""
        run, model = new_run(), network()
        watch = run.watch(torch.compile(model, backend="eager"), every=1)

        @torch.compile(backend="eager")
        def step(number, batch):
            model.zero_grad()
            model(batch).square().mean().backward()
            watch.sample(number)

        for number in range(1, 5):
            step(number, torch.ones(2, 8))
        found = events(run, MetricsLogged)

        assert [event.step for event in found] == [1, 2, 3, 4]
        assert "gradients/norm/0.weight" in found[0].metrics

    def test_watching_again_replaces(self, new_run):
        """As when a notebook's cell is run again; another model is watched beside it."""
        run, model, other = new_run(), network(), network()
        run.watch(model, every=5)
        second, third = run.watch(model, every=7), run.watch(other)

        assert run.watches == (second, third)

    def test_frozen_parameters_have_no_gradient(self, new_run):
        """Those without one are passed over."""
        run, model = new_run(), network()
        model[0].requires_grad_(requires_grad=False)
        backward(model)
        run.watch(model, every=1).sample(1)
        (event,) = events(run, MetricsLogged)

        assert set(event.metrics) == {
            "gradients/norm",
            "gradients/norm/2.weight",
            "gradients/norm/2.bias",
        }

    def test_gradients_that_are_gone_are_said_once(self, new_run, caplog):
        """A sample at the wrong place says what to do, and raises nothing."""
        run, model = new_run(), network()
        watch = run.watch(model, every=1)
        for step in (1, 1):
            watch.sample(step)

        assert caplog.text.count("call sample(step) after backward and before zero_grad") == 1
        assert events(run, MetricsLogged) == []

    def test_what_has_no_norm_is_named_once(self, new_run, caplog):
        """Sparse gradients are left out, the others stay."""
        run = new_run()
        model = torch.nn.ModuleDict(
            {"embed": torch.nn.Embedding(5, 2, sparse=True), "head": torch.nn.Linear(2, 1)}
        )
        model["head"](model["embed"](torch.tensor([1, 2]))).sum().backward()
        watch = run.watch(model, every=1, histograms=True)
        watch.sample(1)
        watch.sample(2)

        assert caplog.text.count("leaves out gradients") == 1
        assert "embed.weight" in caplog.text
        assert "gradients/norm/head.weight" in events(run, MetricsLogged)[1].metrics

    def test_a_failing_device_does_not_end_training(self, new_run, caplog):
        """Here one without norms of float8: said once; the loop goes on."""
        run, model = new_run(), torch.nn.Module()
        weight = torch.ones(3).to(torch.float8_e4m3fn)
        model.weight = torch.nn.Parameter(weight, requires_grad=False)
        watch = run.watch(model, every=1, gradients=False, parameters=True)
        watch.sample(1)
        watch.sample(2)

        assert events(run, MetricsLogged) == []
        assert caplog.text.count("a sample for run.watch failed") == 1

    @pytest.mark.parametrize("every", [0, -3])
    def test_every_is_steps(self, new_run, every):
        """Anything else is refused with its value."""
        with pytest.raises(ValueError, match=f"every={every}"):
            new_run().watch(network(), every=every)

    def test_nothing_to_watch(self, new_run):
        """Neither gradients nor parameters is a mistake."""
        with pytest.raises(ValueError, match="nothing to watch"):
            new_run().watch(network(), gradients=False)

    def test_a_closed_run(self, new_run, caplog):
        """A sample after the end is lost with one warning, like anything logged then."""
        run, model = new_run(), network()
        watch = run.watch(model, every=1, histograms=True)
        backward(model)
        run.close()
        watch.sample(1)

        assert caplog.text.count("what is logged now is lost") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("deterministic", [False, True])
def test_cuda_waits_for_nothing(new_run, deterministic):
    """A sample raises nothing where every wait for the device does; its numbers are the host's."""
    run, model = new_run(), network().cuda()
    model(torch.ones(4, 8, device="cuda")).sum().backward()
    watch = run.watch(model, every=1, parameters=True, histograms=True)
    watch.sample(1)
    torch.use_deterministic_algorithms(deterministic)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        watch.sample(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(mode=False)
    found = events(run, HistogramLogged)

    assert len(found) == 16
    for event, each in zip(found[12:], model.parameters(), strict=True):
        counts, peak = histogram(each.detach().cpu())
        assert event.edges == edges(peak.item())
        assert np.abs(np.array(event.counts) - counts.numpy()).sum() <= 2
