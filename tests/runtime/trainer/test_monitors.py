"""Monitors: throughput and the machine as ordinary events, sampled beside training."""

import json
import logging
import signal
import threading
import time

import pytest

import runtime
from bus import JournalReader, MetricsLogged, SystemMetricsLogged
from bus.testing import JournalAsserter
from runtime._monitors import Monitor, pause_after
from runtime._monitors_host import HostSource, Rates
from runtime._monitors_probes import Probe, Probes
from runtime._monitors_throughput import Progress, rates
from tests.waiting import HANG


@pytest.fixture
def run(tmp_path):
    """A run in a temporary folder."""
    run = runtime.Run("gpt", dir=tmp_path, close_timeout=10)
    yield run
    run.close(timeout=2)


@pytest.fixture(scope="session")
def eventually():
    """The one way to wait here: look again until the condition holds, fail at the deadline."""

    def wait(condition, *, within=10.0):
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within} s: {condition}")
            time.sleep(0.005)

    return wait


def events(run, kind):
    return [record.event for record in JournalReader(run.dir).records(types=(kind,))]


class Numbers:
    """A source of given probes."""

    name = "numbers"

    def __init__(self, **reads) -> None:
        self._left = [Probe(name, read) for name, read in reads.items()]

    def find(self):
        """Give them out once."""
        left, self._left = self._left, []
        return left


def broken():
    raise RuntimeError("no such sensor")


class TestThroughput:
    def test_rates_are_of_the_time_between_two_moments(self):
        """What was done over how long it took; MFU and waiting as shares of what was possible."""
        before = Progress(10, 10, 100, 1000, 1e9, 1.0, 50.0)
        after = Progress(30, 30, 900, 9000, 9e9, 1.5, 54.0)

        assert rates(before, after, peak_flops=8e9) == {
            "throughput/steps_per_second": 5.0,
            "throughput/samples_per_second": 200.0,
            "throughput/tokens_per_second": 2000.0,
            "throughput/flops_per_second": 2e9,
            "throughput/mfu": 0.25,
            "throughput/data_wait_share": 0.125,
        }

    def test_what_was_not_told_is_left_out(self):
        """A loop that tells only its steps gets only their rate; without a peak there is no MFU."""
        before = Progress(0, 0, 0, 0, 0.0, 0.0, 0.0)
        steps = before._replace(steps=4, time=2.0)

        assert rates(before, steps, None) == {"throughput/steps_per_second": 2.0}
        assert "throughput/mfu" not in rates(before, steps._replace(flops=1.0), None)

    def test_a_loop_of_ones_own(self, run):
        """Steps told to the monitor are logged as rates, with the step they reach to."""
        monitor = run.monitor(host=False, gpu=False)
        began = time.perf_counter()
        for step, batch in enumerate(monitor.batches([[1, 2]] * 101), start=1):
            monitor.step(step, samples=len(batch), tokens=10, flops=5.0)
        took = time.perf_counter() - began
        run.close()

        (event,) = events(run, MetricsLogged)
        speed = event.metrics["throughput/steps_per_second"]
        assert event.step == 101
        assert speed >= 100 / took
        assert event.metrics["throughput/samples_per_second"] == pytest.approx(2 * speed)
        assert event.metrics["throughput/tokens_per_second"] == pytest.approx(10 * speed)
        assert event.metrics["throughput/flops_per_second"] == pytest.approx(5 * speed)
        assert 0 < event.metrics["throughput/data_wait_share"] < 1

    def test_waiting_is_the_loaders_time(self, run):
        """A loader that takes its time is most of the time waited for."""

        def slow():
            for batch in range(6):
                threading.Event().wait(0.02)
                yield batch

        monitor = run.monitor(host=False, gpu=False)
        for step in monitor.batches(slow()):
            monitor.step(step)
        run.close()

        assert events(run, MetricsLogged)[0].metrics["throughput/data_wait_share"] > 0.8

    def test_the_first_step_is_not_measured(self, run):
        """A single step says nothing: it is the one that compiles and warms up."""
        run.monitor(host=False, gpu=False).step(1, samples=8)
        run.close()

        assert events(run, MetricsLogged) == []

    def test_no_step_no_number(self, run, eventually):
        """While no step ends nothing is logged; the next rate covers the whole time."""
        looks = []
        probes = Probes([Numbers(count=lambda: looks.append(1) or {})])
        monitor = Monitor(run, probes, interval=0.005, peak_flops=None)
        monitor.step(1)
        monitor.step(2)
        monitor.start()
        eventually(lambda: len(looks) > 5)
        monitor.close()
        run.close()

        assert [event.step for event in events(run, MetricsLogged)] == [2]


class TestMachine:
    def test_host_metrics(self, run):
        """What psutil tells is published under host/ and process/, belonging to no step."""
        run.monitor(gpu=False)
        run.close()

        (event,) = events(run, SystemMetricsLogged)
        metrics = event.metrics
        assert event.step is None
        assert {key.partition("/")[0] for key in metrics} == {"host", "process"}
        assert 0 <= metrics["host/cpu_percent"] <= 100
        assert 0 < metrics["host/memory_percent"] <= 100
        assert 0 <= metrics["host/disk_used_percent"] <= 100
        assert metrics["host/network_sent_bytes_per_second"] >= 0
        assert metrics["process/memory_bytes"] > 2**20
        assert metrics["process/threads"] > 1

    def test_probes_are_found_once(self, tmp_path):
        """However often a source is asked, each of its probes is read once."""
        source = HostSource(tmp_path)

        assert source.find()
        assert source.find() == []

    def test_rates_of_counters(self):
        """A counter's growth over the time; one that was set back says nothing."""
        counted = iter([{"a": 0, "b": 100}, {"a": 50, "b": 0}, {"a": 50, "b": 10}])
        measure = Rates(lambda: next(counted))
        began = time.monotonic()
        first = measure()
        took = time.monotonic() - began

        assert set(first) == {"a"}
        assert first["a"] >= 50 / (took + 1)
        assert set(measure()) == {"a", "b"}

    @pytest.mark.slow
    def test_without_psutil_it_is_said_once(self, interpreter, tmp_path):
        """Training goes on without the package; one line says what to install."""
        program = f"""
import sys, json
sys.modules["psutil"] = None
import runtime
with runtime.Run("gpt", dir={str(tmp_path)!r}) as run:
    monitor = run.monitor(interval=0.001)
    for step in range(100):
        monitor.step(step)
"""
        done = interpreter.run(["-W", "error", "-c", program], timeout=3 * HANG)

        assert done.code == 0, done.err
        assert done.err.count("psutil is not installed; pip install 'hotloop[monitors]'") == 1
        assert done.err.count("\n") == 1


class TestIsolation:
    def test_a_failing_probe_is_named_once_and_left_out(self, caplog):
        """The others go on."""
        good = Numbers(broken=broken, good=lambda: {"good": 1.0})
        probes = Probes([good])
        read = [probes.read() for _ in range(3)]

        assert read == [{"good": 1.0}] * 3
        assert [each.getMessage() for each in caplog.records] == [
            "broken is no longer read: RuntimeError: no such sensor"
        ]

    def test_a_failing_source_is_named_once_and_left_out(self, caplog):
        """A driver that does not start takes nothing else with it."""

        class Broken:
            name = "GPU metrics"

            def find(self):
                broken()

        probes = Probes([Broken(), Numbers(good=lambda: {"good": 1.0})])
        read = [probes.read() for _ in range(3)]

        assert read == [{"good": 1.0}] * 3
        assert [each.getMessage() for each in caplog.records] == [
            "GPU metrics are left out: RuntimeError: no such sensor"
        ]

    def test_a_hung_probe_holds_up_nothing(self, run, caplog):
        """Closing waits a second for it and goes on; what it says afterwards is not published."""
        hung = threading.Event()
        probes = Probes([Numbers(hung=lambda: hung.wait(60) and {"late": 1.0})])
        monitor = Monitor(run, probes, interval=60, peak_flops=None)
        monitor.start()
        began = time.monotonic()
        monitor.close()
        took = time.monotonic() - began
        run.close()
        hung.set()
        monitor._thread.join(10)

        assert took < HANG
        assert "takes too long" in caplog.text
        assert "what is logged now is lost" not in caplog.text
        assert run.statistics().dropped == {}


class TestBudget:
    def test_a_pause_pays_for_the_reading_before_it(self):
        """The interval is as asked while readings are cheap, and longer when they are not."""
        assert pause_after(0.001, 10.0) == 10.0
        assert pause_after(0.1, 10.0) == pytest.approx(20.0)

    def test_costly_readings_stretch_the_interval(self, run, eventually):
        """Readings that burn CPU are made less often, and the time they took is told."""

        def burn():
            began = time.thread_time()
            while time.thread_time() - began < 0.02:
                pass
            return {"burnt": 1.0}

        monitor = Monitor(run, Probes([Numbers(burn=burn)]), interval=0.01, peak_flops=None)
        monitor.start()
        eventually(lambda: monitor.cpu_seconds > 0)
        eventually(lambda: monitor.interval > 1)
        monitor.close()

        assert monitor.interval == pytest.approx(monitor.cpu_seconds / 2 / 0.005, rel=0.5)


class TestLife:
    def test_closing_the_run_ends_the_sampler(self, run):
        """No thread outlives the run, and the journal is complete."""
        monitor = run.monitor(interval=0.01)
        assert monitor.running
        run.close()

        assert not monitor.running
        assert run.active_monitor is None
        JournalAsserter(run.dir).complete().ends("finished")

    def test_ctrl_c_while_the_last_reading_takes_its_time(self, run):
        """The run is closed all the same, and the interrupt goes on afterwards."""
        reading, free = threading.Event(), threading.Event()

        def slow():
            reading.set()
            free.wait(10)
            return {}

        probes = Probes([Numbers(slow=slow)])
        run._monitor = Monitor(run, probes, interval=0.001, peak_flops=None)
        run._monitor.start()
        assert reading.wait(10)
        timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run.close()
        free.set()
        timer.join()

        JournalAsserter(run.dir).complete().ends("finished")

    def test_a_second_monitor_replaces_the_first(self, run):
        """As when a notebook's cell is run again: one sampler is left."""
        first = run.monitor()
        second = run.monitor()

        assert not first.running
        assert second.running
        assert run.active_monitor is second

    def test_a_closed_run_starts_none(self, run, caplog):
        """A monitor of a closed run takes steps and publishes nothing."""
        run.close()
        with caplog.at_level(logging.WARNING):
            monitor = run.monitor()
        monitor.step(1)
        monitor.close()

        assert not monitor.running
        assert "what is logged now is lost" in caplog.text

    @pytest.mark.parametrize("interval", [0, -1.0, float("nan"), float("inf")])
    def test_an_interval_is_seconds(self, run, interval):
        """Anything else is refused with its value."""
        with pytest.raises(ValueError, match=f"interval={interval}"):
            run.monitor(interval=interval)

    def test_a_peak_is_positive(self, run):
        """So is a peak of no operations."""
        with pytest.raises(ValueError, match="peak_flops=0"):
            run.monitor(peak_flops=0)

    def test_events_are_readable_by_others(self, run):
        """The journal's lines are ordinary events, as any sink reads them."""
        run.monitor(gpu=False)
        run.close()
        lines = [
            json.loads(line)
            for path in sorted((run.dir / "journal").iterdir())
            for line in path.read_text().splitlines()
        ]

        assert "system_metrics_logged" in {line["type"] for line in lines}
