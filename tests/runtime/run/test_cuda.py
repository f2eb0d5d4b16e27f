"""Reading CUDA scalars: nothing waits for the device, and every value is the call's."""

import contextlib
import math
import struct
import threading

import pytest
import torch

from bus import AnomalyDetected
from bus.testing import JournalAsserter
from runtime import CudaSnapshots
from tests.runtime.cuda_profile import Profile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
]


def on_device(value, dtype=torch.float64):
    return torch.tensor(value, dtype=torch.float64).to(dtype).cuda()


@pytest.fixture
def busy():
    """Occupy the current stream for about a second, so that whoever waits for it is found out."""

    def occupy():
        torch.cuda._sleep(2_000_000_000)

    return occupy


@pytest.fixture
def no_sync():
    """Within this context every wait for the device raises."""

    @contextlib.contextmanager
    def forbid():
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return forbid


def test_no_wait_for_64_scalars(new_run, logged, busy, no_sync):
    """64 scalars are taken while the device is busy; the values are bit-equal when they come."""
    values = [1 / (number + 3) for number in range(64)]
    tensors = {f"m{number}": on_device(value) for number, value in enumerate(values)}
    run = new_run(strict=True, close_timeout=60)
    run.log(tensors, step=0)
    with no_sync():
        busy()
        for step in range(1, 11):
            run.log(tensors, step=step)
        still_busy = not torch.cuda.current_stream().query()
    run.close()

    assert still_busy, "run.log waited for the device"
    expected = {f"m{number}": value for number, value in enumerate(values)}
    assert logged(run.dir) == [(step, expected) for step in range(11)]
    JournalAsserter(run.dir).complete().ends("finished")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(new_run, logged, dtype):
    """0-dim and 1-element tensors of each dtype give what the same tensor gives on the host."""
    value = on_device(0.7, dtype)
    run = new_run(strict=True)
    run.log({"x": value, "y": value.reshape(1)}, step=1)
    run.close()

    expected = float(value.cpu().to(torch.float64).item())
    assert logged(run.dir) == [(1, {"x": expected, "y": expected})]


def test_many_dtypes_and_hosts_numbers_in_one_call(new_run, logged):
    """Dtypes are packed apart and come back as one event with the host's numbers."""
    metrics = {str(dtype): on_device(1.0, dtype) for dtype in DTYPES}
    run = new_run(strict=True)
    run.log({**metrics, "host": 0.1, "cpu": torch.tensor(3)}, step=1)
    run.close()

    expected = dict.fromkeys(map(str, DTYPES), 1.0)
    assert logged(run.dir) == [(1, {**expected, "host": 0.1, "cpu": 3.0})]


def test_not_finite(new_run, logged):
    """NaN and infinities arrive as such."""
    run = new_run()
    run.log({"nan": on_device(math.nan), "inf": on_device(-math.inf)})
    run.close()

    ((_, metrics),) = logged(run.dir)
    assert math.isnan(metrics["nan"])
    assert metrics["inf"] == -math.inf


def test_changed_in_place_at_once(new_run, logged, busy):
    """A loss that the next step overwrites, queued behind a busy device, logs its old value."""
    run = new_run(close_timeout=60)
    loss = on_device(0.0)
    busy()
    for step in range(200):
        loss.fill_(step)
        run.log({"loss": loss}, step=step)
    loss.fill_(-1)
    run.close()

    assert logged(run.dir) == [(step, {"loss": float(step)}) for step in range(200)]


def test_freed_at_once(new_run, logged, busy):
    """A tensor whose memory goes to another one right after the call logs its own value."""
    run = new_run(close_timeout=60)
    busy()
    for step in range(200):
        run.log({"loss": on_device(0.0).add_(step)}, step=step)
        torch.full((64,), -1.0, device="cuda")
    run.close()

    assert logged(run.dir) == [(step, {"loss": float(step)}) for step in range(200)]


def test_streams(new_run, logged, busy):
    """Each stream's values are copied in that stream's order."""
    run = new_run(close_timeout=60)
    streams = [torch.cuda.Stream() for _ in range(3)]
    losses = [torch.zeros((), dtype=torch.float64, device="cuda") for _ in streams]
    torch.cuda.synchronize()
    for number, stream in enumerate(streams):
        with torch.cuda.stream(stream):
            if number == 1:
                busy()
            for step in range(50):
                losses[number].fill_(100 * number + step)
                run.log({f"loss{number}": losses[number]}, step=step)
    torch.cuda.synchronize()
    run.close()

    for number in range(3):
        series = [m[f"loss{number}"] for _, m in logged(run.dir) if f"loss{number}" in m]
        assert series == [100.0 * number + step for step in range(50)]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_under_a_default_device(new_run, logged, device):
    """Where new tensors go by default does not matter to the pinned row."""
    value = on_device(0.5)
    run = new_run(strict=True)
    with torch.device(device):
        run.log({"x": value}, step=1)
    run.close()

    assert logged(run.dir) == [(1, {"x": 0.5})]


def test_inside_grad(new_run, logged):
    """torch.func.grad leaves the value of the call."""
    run = new_run(strict=True)

    def loss(x):
        run.log({"loss": x * x}, step=1)
        return x * x

    assert torch.func.grad(loss)(on_device(3.0)).item() == 6.0
    run.close()

    assert logged(run.dir) == [(1, {"loss": 9.0})]


@pytest.mark.parametrize("dtypes", [[torch.float32], [torch.float32, torch.float64]], ids=len)
def test_one_copy_and_one_pack_per_dtype(new_run, dtypes):
    """In a profile, 64 scalars cost a kernel and a copy for each dtype, and no wait."""
    tensors = {
        f"m{number}": on_device(number, dtypes[number % len(dtypes)]) for number in range(64)
    }
    run = new_run()
    run.log(tensors)
    with Profile() as profile:
        run.log(tensors)

    assert len(profile.copies) == len(dtypes), profile.on_device
    assert len(profile.kernels) == len(dtypes), profile.on_device
    assert profile.waits == []


def test_bits(new_run, logged):
    """Each float32 arrives as what `item` gives, to the bit: denormal, huge and negative zero."""
    patterns = [0x00000001, 0x807FFFFF, 0x80000000, 0x7F7FFFFF, 0x3DCCCCCD, 0x7F800000]
    patterns += [0x9E3779B9 * number % 2**31 % 0x7F800000 for number in range(1, 59)]
    values = [struct.unpack("f", struct.pack("I", bits))[0] for bits in patterns]
    tensors = {f"m{n}": torch.tensor(v, device="cuda") for n, v in enumerate(values)}
    run = new_run(strict=True)
    run.log(tensors, step=1)
    run.close()

    ((_, metrics),) = logged(run.dir)
    for name, tensor in tensors.items():
        assert struct.pack("d", metrics[name]) == struct.pack("d", tensor.item()), name


def test_the_last_step_is_not_lost(new_run, logged, busy):
    """A run that is closed while the device works waits for what was logged last."""
    run = new_run(close_timeout=60)
    loss = on_device(0.0)
    busy()
    loss.add_(0.5)
    run.log({"loss": loss}, step=7)
    still_busy = not torch.cuda.current_stream().query()
    run.close()

    assert still_busy
    assert logged(run.dir) == [(7, {"loss": 0.5})]
    JournalAsserter(run.dir).complete().ends("finished")


class TestLossGuard:
    def test_finds_without_waiting(self, new_run, busy, no_sync):
        """Checked while the device is busy, told when it has answered."""
        run = new_run(close_timeout=60)
        guard = run.guard(on_nonfinite="alert", window=2, every=4)
        losses = [on_device(math.nan if step == 42 else 1.0, torch.float32) for step in range(60)]
        for loss in losses[:8]:
            guard.check(loss, step=0, grad_norm=loss)
        with no_sync():
            busy()
            for step, loss in enumerate(losses):
                guard.check(loss, step=step, grad_norm=loss)
            still_busy = not torch.cuda.current_stream().query()
        torch.cuda.synchronize()
        run.close()

        assert still_busy, "the guard waited for the device"
        (event,) = JournalAsserter(run.dir).of(AnomalyDetected)
        assert (event.step, event.metric, event.kind) == (42, "loss", "nonfinite")

    def test_stops(self, new_run):
        """A loop that runs ahead of its device stops as soon as that has answered."""
        run = new_run()
        guard = run.guard(every=4)
        stopped = None
        for step in range(1, 200):
            guard.check(on_device(math.inf if step == 50 else 1.0, torch.float32), step=step)
            torch.cuda.synchronize()  # as a loop does that is no step ahead
            if run.safe_point(step).stop:
                stopped = step
                break
        run.close()

        assert stopped is not None
        assert 50 <= stopped <= 50 + 4

    def test_a_graphs_output(self, new_run):
        """A loss that each replay overwrites counts with the value of its replay."""
        run = new_run()
        guard = run.guard(on_nonfinite="alert", every=4)
        loss = torch.zeros((), device="cuda")
        graph = TestGraphs.capture(lambda: loss.sub_(1).log_(), warm_up=0)
        for step in range(8):
            loss.fill_(0.5 if step == 5 else 3.0)
            graph.replay()
            guard.check(loss, step=step)
        torch.cuda.synchronize()
        run.close()

        (event,) = JournalAsserter(run.dir).of(AnomalyDetected)
        assert event.step == 5

    def test_one_copy_for_some_steps(self, new_run):
        """In a profile: one copy to the host for all the steps that are looked at together."""
        run = new_run()
        guard = run.guard(every=4)
        loss, norm = on_device(1.0, torch.float32), on_device(2.0, torch.float32)
        for step in range(8):
            guard.check(loss, step=step, grad_norm=norm)
        with Profile() as profile:
            for step in range(8, 12):
                guard.check(loss, step=step, grad_norm=norm)

        assert len(profile.copies) == 1, profile.on_device
        assert profile.waits == []


class CountingPolls(CudaSnapshots):
    """CUDA's own way, which counts how often the writer asks."""

    def __init__(self):
        self.polls = 0

    def take(self, tensors):
        """Take them, and count what is asked about them."""
        return _Counted(self, super().take(tensors))


class _Counted:
    def __init__(self, counter, values):
        self._counter, self._values = counter, values

    def ready(self):
        self._counter.polls += 1
        return self._values.ready()

    def values(self):
        return self._values.values()


class TestGraphs:
    @staticmethod
    def capture(body, warm_up=3):
        """Capture a function into a graph, warmed up on a side stream as torch asks for."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm_up):
                body()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body()
        return graph

    def test_logged_after_each_replay(self, new_run, logged):
        """A graph's output is overwritten by the next replay; each call logs its own replay."""
        run = new_run()
        loss = torch.zeros((), dtype=torch.float64, device="cuda")

        def body():
            loss.add_(1)

        graph = self.capture(body, warm_up=0)
        for step in range(100):
            graph.replay()
            run.log({"loss": loss}, step=step)
        run.close()

        assert logged(run.dir) == [(step, {"loss": step + 1.0}) for step in range(100)]

    def test_logged_during_capture_is_refused(self, new_run):
        """Inside a capture there is no value yet: named with what to do, the capture is whole."""
        run = new_run()
        loss = torch.zeros((), device="cuda")

        def body():
            loss.add_(1)
            if torch.cuda.is_current_stream_capturing():
                run.log({"loss": loss, "lr": 0.1})

        graph = self.capture(body)
        graph.replay()
        torch.cuda.synchronize()
        run.close()

        assert list(run.statistics().rejected) == ["loss"]
        assert "after replay" in run.statistics().rejected["loss"]
        assert loss.item() >= 1

    def test_polling_leaves_a_global_capture_alone(self, new_run, logged):
        """While values are waiting the writer polls; captures on the training thread succeed."""
        run = new_run(flush_interval=0.001, close_timeout=60)
        loss = torch.zeros((), dtype=torch.float64, device="cuda")
        static = torch.ones(1024, device="cuda")
        for round_ in range(20):
            busy_stream = torch.cuda.Stream()
            with torch.cuda.stream(busy_stream):
                torch.cuda._sleep(20_000_000)
                loss.fill_(round_)
                run.log({"loss": loss}, step=round_)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="global"):
                for _ in range(200):
                    static.mul_(1.0)
            graph.replay()
            torch.cuda.synchronize()
        run.close()

        assert logged(run.dir) == [(round_, {"loss": float(round_)}) for round_ in range(20)]

    def test_polls_while_a_capture_is_open(self, new_run, logged, eventually):
        """The writer asks again and again while a capture in "global" mode goes on; it holds."""
        counting = CountingPolls()
        run = new_run(snapshots={"cuda": counting}, flush_interval=0.001, close_timeout=60)
        loss, static = on_device(0.5), torch.ones(64, device="cuda")
        run.log({"loss": loss}, step=0)  # pinned memory is made here, and not below
        torch.cuda.synchronize()
        assert run.flush()
        graph, capturing = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        torch.cuda._sleep(2_000_000_000)
        run.log({"loss": loss}, step=1)
        with torch.cuda.stream(capturing):
            graph.capture_begin(capture_error_mode="global")
            static.add_(1)
            asked = counting.polls
            eventually(lambda: counting.polls >= asked + 3)
            static.add_(1)
            graph.capture_end()
        graph.replay()
        torch.cuda.synchronize()
        run.close()

        assert static.tolist() == [3.0] * 64
        assert logged(run.dir) == [(0, {"loss": 0.5}), (1, {"loss": 0.5})]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_compiled(self, new_run, logged):
        """A step compiled by Inductor logs values that it changes in place right after."""
        run = new_run()

        @torch.compile
        def train_step(x, step):
            loss = (x * 2).sum()
            run.log({"loss": loss}, step=step)
            return loss.mul_(-1)

        for step in range(20):
            train_step(torch.full((8,), float(step), device="cuda"), step)
        run.close()
        torch.compiler.reset()

        assert logged(run.dir) == [(step, {"loss": 16.0 * step}) for step in range(20)]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_reduce_overhead(self, new_run, logged):
        """A loop compiled with CUDA graphs logs each step's loss, inside and outside of it."""
        run = new_run()

        @torch.compile(mode="reduce-overhead")
        def train_step(x):
            loss = (x * 2).sum()
            run.log({"inside": loss})
            return loss + 1

        for step in range(20):
            torch.compiler.cudagraph_mark_step_begin()
            loss = train_step(torch.full((8,), float(step), device="cuda"))
            run.log({"outside": loss}, step=step)
        run.close()
        torch.compiler.reset()

        inside = [m["inside"] for _, m in logged(run.dir) if "inside" in m]
        outside = [m["outside"] for _, m in logged(run.dir) if "outside" in m]
        assert inside == [16.0 * step for step in range(20)]
        assert outside == [16.0 * step + 1 for step in range(20)]


def test_threads(new_run, logged):
    """Threads with streams of their own log at the same time."""
    run = new_run()

    def log(name):
        with torch.cuda.stream(torch.cuda.Stream()):
            value = torch.zeros((), dtype=torch.float64, device="cuda")
            for step in range(100):
                value.fill_(step)
                run.log({name: value}, step=step)

    threads = [threading.Thread(target=log, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.close()

    for name in "abc":
        series = [m[name] for _, m in logged(run.dir) if name in m]
        assert series == [float(step) for step in range(100)]
