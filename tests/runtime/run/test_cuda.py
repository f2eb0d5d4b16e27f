"""Reading CUDA scalars: nothing waits for the device, and every value is the call's."""

import contextlib
import math
import threading

import pytest
import torch

from bus.testing import JournalAsserter

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


def test_one_copy_and_one_pack_per_dtype(new_run):
    """In a profile, 64 scalars of two dtypes cost two kernels and two copies to the host."""
    tensors = {
        f"m{number}": on_device(number, torch.float32 if number % 2 else torch.float64)
        for number in range(64)
    }
    run = new_run()
    run.log(tensors)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        run.log(tensors)
        torch.cuda.synchronize()
    device = torch.autograd.DeviceType.CUDA
    names = [e.name for e in profile.events() if e.device_type == device]
    copies = [name for name in names if name.startswith("Memcpy DtoH")]
    kernels = [name for name in names if not name.startswith(("Memcpy", "Memset"))]

    assert len(copies) == 2, names
    assert len(kernels) == 2, names


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
