"""Values that a device delivers late, out of phase, or never."""

import asyncio
import threading
import time

import pytest
import torch

from bus import AlertRaised, BusOptions, Evaluated, Gap, JournalReader, MetricsLogged, Save, Stop
from bus.testing import JournalAsserter, Recorder
from tests.waiting import HANG


def tensor(value):
    return torch.tensor(float(value), dtype=torch.float64)


def series(logged, folder, key):
    return [(step, metrics[key]) for step, metrics in logged(folder) if key in metrics]


class TestLate:
    def test_host_events_overtake(self, new_run, late_device, logged):
        """What is known is written while a device keeps others waiting, then the late ones come."""
        run = new_run(snapshots={"cpu": late_device})
        run.log({"loss": tensor(1)}, step=1)
        run.log({"lr": 0.1}, step=1)
        run.log({"loss": tensor(2)}, step=2)
        run.log({"lr": 0.2}, step=2)
        assert run.flush()
        early = logged(run.dir)
        pending = run.statistics().device_pending
        late_device.release()
        run.close()

        assert early == [(1, {"lr": 0.1}), (2, {"lr": 0.2})]
        assert pending == 2
        assert logged(run.dir)[2:] == [(1, {"loss": 1.0}), (2, {"loss": 2.0})]
        JournalAsserter(run.dir).complete().ends("finished")

    def test_a_later_answer_waits_for_an_earlier_one_of_its_series(
        self, new_run, late_device, logged, eventually
    ):
        """Answers come in reverse; each series is written in the order it was logged."""
        run = new_run(snapshots={"cpu": late_device})
        for step in range(4):
            run.log({"loss": tensor(step)}, step=step)
        run.log({"other": tensor(9)}, step=9)
        for call in (3, 2, 1, 4):
            late_device.release(call)
        eventually(lambda: run.statistics().device_pending == 4)
        assert run.flush()
        before = logged(run.dir)
        late_device.release(0)
        run.close()

        assert before == [(9, {"other": 9.0})]
        assert logged(run.dir)[1:] == [(step, {"loss": float(step)}) for step in range(4)]

    def test_host_values_wait_behind_their_own_series_only(
        self, new_run, late_device, logged, eventually
    ):
        """A float under a waiting key comes after it; a float under another key does not wait."""
        run = new_run(snapshots={"cpu": late_device})
        run.log({"loss": tensor(1), "norm": tensor(5)}, step=1)
        run.log({"loss": 2.0}, step=2)
        run.log({"lr": 0.1}, step=2)
        eventually(lambda: run.statistics().device_pending == 2)
        assert run.flush()
        before = logged(run.dir)
        late_device.release()
        run.close()

        assert before == [(2, {"lr": 0.1})]
        assert logged(run.dir)[1:] == [(1, {"loss": 1.0, "norm": 5.0}), (2, {"loss": 2.0})]

    def test_host_and_device_in_one_call_are_one_event(self, new_run, late_device, logged):
        """Floats, integers, numpy's and tensors of one call share its event, time and step."""
        run = new_run(snapshots={"cpu": late_device})
        began = time.time()
        run.log({"loss": tensor(0.5), "lr": 0.1, "tokens": 3, "acc": tensor(0.25)}, step=7)
        ended = time.time()
        late_device.release()
        run.close()

        expected = {"loss": 0.5, "lr": 0.1, "tokens": 3.0, "acc": 0.25}
        assert logged(run.dir) == [(7, expected)]
        (record,) = JournalReader(run.dir).records(types=(MetricsLogged,))
        assert began <= record.event.time <= ended

    def test_a_call_that_shares_one_key_waits_as_a_whole(self, new_run, late_device, logged):
        """Series overlap: an event is written only when it is first in each of its series."""
        run = new_run(snapshots={"cpu": late_device})
        run.log({"a": tensor(1)}, step=1)
        run.log({"a": tensor(2), "b": tensor(2)}, step=2)
        run.log({"b": tensor(3)}, step=3)
        late_device.release(1, 2)
        assert run.flush()
        before = logged(run.dir)
        late_device.release(0)
        run.close()

        assert before == []
        assert series(logged, run.dir, "a") == [(1, 1.0), (2, 2.0)]
        assert series(logged, run.dir, "b") == [(2, 2.0), (3, 3.0)]

    def test_subscribers_see_the_journals_order(self, new_run, late_device):
        """Live subscribers get late values when they arrive, as the journal does."""
        run = new_run(snapshots={"cpu": late_device})
        recorder = Recorder()
        run.subscribe(MetricsLogged)(recorder)
        run.log({"loss": tensor(1)}, step=1)
        run.log({"lr": 0.1}, step=1)
        assert run.flush()
        late_device.release()
        run.close()

        assert [event.metrics for event in recorder.events] == [{"lr": 0.1}, {"loss": 1.0}]

    @pytest.mark.parametrize("durability", ["interval", "write"])
    @pytest.mark.parametrize("seed", range(3))
    def test_out_of_phase(self, new_run, jittery_device, logged, seed, durability):
        """Answers in random order: nothing is lost, each series is in order and equal."""
        run = new_run(snapshots={"cpu": jittery_device(seed)}, durability=durability)
        loss = tensor(0)
        for step in range(300):
            loss.fill_(step / 7)
            metrics = {"loss": loss, "lr": step / 3}
            if step % 3 == 0:
                metrics["norm"] = loss * 2
            run.log(metrics, step=step)
            run.log({"host": float(step)}, step=step)
        run.close()

        assert series(logged, run.dir, "loss") == [(s, s / 7) for s in range(300)]
        assert series(logged, run.dir, "lr") == [(s, s / 3) for s in range(300)]
        assert series(logged, run.dir, "norm") == [(s, s / 7 * 2) for s in range(0, 300, 3)]
        assert series(logged, run.dir, "host") == [(s, float(s)) for s in range(300)]
        JournalAsserter(run.dir).complete().ends("finished")


class TestNever:
    @pytest.mark.parametrize("seed", range(3))
    def test_what_never_came_is_counted(self, new_run, jittery_device, logged, seed):
        """At the close each call without an answer is in the gap, each other one in the journal."""
        device = jittery_device(seed, lost=0.1)
        run = new_run(snapshots={"cpu": device})
        for step in range(200):
            run.log({f"k{step % 5}": tensor(step)}, step=step)
        account = run.close(timeout=1.0)

        missing = set(range(200)) - {step for step, _ in logged(run.dir)}
        gaps = JournalAsserter(run.dir).of(Gap)
        assert missing == device.never
        assert missing
        assert {gap.reason for gap in gaps} == {"device did not answer"}
        assert sum(gap.count for gap in gaps) == len(missing)
        assert run.statistics().dropped == {"device did not answer": len(missing)}
        assert account is not None
        assert account.written

    def test_a_hung_device_holds_up_nothing_else(self, new_run, late_device, logged, eventually):
        """Alerts, requests, deciders and other metrics go their way; closing keeps its budget."""
        run = new_run(snapshots={"cpu": late_device})
        recorder = Recorder()
        run.subscribe(AlertRaised, MetricsLogged)(recorder)

        @run.decider(Evaluated, deadline=10.0)
        async def enough(_event: Evaluated) -> Stop:
            return Stop(reason="enough")

        for step in range(2000):
            run.log({"loss": tensor(step), f"k{step}": tensor(step)}, step=step)
        run.alert("look here")
        run.log({"lr": 0.1}, step=1)
        eventually(lambda: len(recorder.events) == 2)
        assert run.flush()
        save = run.control.request(Save())
        run.publish(Evaluated(step=1, metrics={"acc": 1.0}))
        decision = run.safe_point(2000)
        began = time.monotonic()
        run.close(timeout=1.0)
        took = time.monotonic() - began

        assert decision.stop
        assert decision.save
        assert save.wait(0).applied
        assert logged(run.dir) == [(1, {"lr": 0.1})]
        assert took < HANG
        JournalAsserter(run.dir).ends("stopped").has(Gap, reason="device did not answer")
        assert run.statistics().dropped == {"device did not answer": 2000}

    def test_many_hung_series_do_not_hide_one_that_answers(
        self, new_run, late_device, logged, eventually
    ):
        """Thousands of series that never answer are ahead of one that does; it is written."""
        run = new_run(snapshots={"cpu": late_device}, flush_interval=0.01)
        for number in range(2000):
            run.log({f"hung{number}": tensor(number)})
        run.log({"loss": tensor(0.5)}, step=1)
        late_device.release(2000)
        eventually(lambda: run.statistics().device_pending == 2000)
        run.close(timeout=0.5)

        assert logged(run.dir) == [(1, {"loss": 0.5})]

    def test_known_values_behind_a_hung_one_are_kept(self, new_run, late_device, logged):
        """What waited only for its turn in a series is written when the device is given up."""
        run = new_run(snapshots={"cpu": late_device})
        run.log({"loss": tensor(1)}, step=1)
        run.log({"loss": 2.0}, step=2)
        run.log({"loss": tensor(3)}, step=3)
        run.log({"loss": 4.0, "lr": 0.1}, step=4)
        late_device.release(1)
        run.close(timeout=0.5)

        assert logged(run.dir) == [
            (2, {"loss": 2.0}),
            (3, {"loss": 3.0}),
            (4, {"loss": 4.0, "lr": 0.1}),
        ]
        assert run.statistics().dropped == {"device did not answer": 1}

    def test_a_device_that_fails_is_a_gap(self, new_run, logged, caplog):
        """As CUDA does after an assertion, every question raises: counted, said once, go on."""

        class Broken:
            def take(self, _tensors):
                return self

            def ready(self):
                raise RuntimeError("device-side assert triggered")

            def values(self):
                raise AssertionError("asked without being ready")

        run = new_run(snapshots={"cpu": Broken()})
        for step in range(50):
            run.log({"loss": tensor(1), "lr": 0.1}, step=step)
        run.log({"lr": 0.2}, step=50)
        run.log({"loss": 0.5}, step=51)
        run.close()

        assert sorted(logged(run.dir)) == [(50, {"lr": 0.2}), (51, {"loss": 0.5})]
        assert run.statistics().dropped == {"device did not answer": 50}
        said = [each for each in caplog.records if "device failed" in each.getMessage()]
        assert len(said) == 1
        assert "writer thread failed" not in caplog.text

    def test_a_device_that_fails_behind_a_hung_one(self, new_run, late_device, logged):
        """A device is asked a last time before it is given up; failing then counts the same."""
        run = new_run(snapshots={"cpu": late_device})
        run.log({"loss": tensor(1)}, step=1)
        run.log({"loss": tensor(2)}, step=2)
        run.log({"loss": 3.0}, step=3)
        late_device.calls[1].fail()
        run.close(timeout=0.5)

        assert logged(run.dir) == [(3, {"loss": 3.0})]
        assert run.statistics().dropped == {"device did not answer": 2}

    def test_values_that_cannot_be_read_are_a_gap(self, new_run, logged):
        """A device may also fail between being ready and giving its values."""

        class Torn:
            def take(self, _tensors):
                return self

            def ready(self):
                return True

            def values(self):
                raise RuntimeError("torn")

        run = new_run(snapshots={"cpu": Torn()})
        run.log({"loss": tensor(1)}, step=1)
        run.log({"loss": 2.0}, step=2)
        run.close()

        assert logged(run.dir) == [(2, {"loss": 2.0})]
        assert run.statistics().dropped == {"device did not answer": 1}

    def test_beyond_the_limit_the_oldest_is_given_up(self, new_run, late_device, logged):
        """Memory for waiting values is bounded, and what no longer fits is counted."""
        run = new_run(snapshots={"cpu": late_device}, options=BusOptions(device_events=10))
        for step in range(25):
            run.log({"loss": tensor(step)}, step=step)
        assert run.flush()
        pending = run.statistics().device_pending
        late_device.release()
        run.close()

        assert pending == 10
        assert logged(run.dir) == [(step, {"loss": float(step)}) for step in range(15, 25)]
        assert run.statistics().dropped == {"device did not answer": 15}


class TestCost:
    def test_twenty_thousand_waiting(self, new_run, logged):
        """What waits costs nothing while it waits: the writer looks at the first of each series."""

        class Counting:
            looks = 0
            open = False

            def take(self, _tensors):
                return self

            def ready(self):
                Counting.looks += 1
                return Counting.open

            def values(self):
                return {"loss": 0.5}

        run = new_run(snapshots={"cpu": Counting()}, flush_interval=0.001)
        loss = tensor(0.5)
        for step in range(20_000):
            run.log({"loss": loss}, step=step)
        for _ in range(100):
            assert run.flush()
        waiting = run.statistics().device_pending
        looks = Counting.looks
        Counting.open = True
        run.close()

        assert waiting == 20_000
        assert looks < 10_000, "each look should ask for the oldest value only"
        assert [step for step, _ in logged(run.dir)] == list(range(20_000))
        seconds = run.statistics().writer_cpu_seconds
        print(f"writer CPU for 20,000 late values: {seconds:.2f} s")  # noqa: T201 - for -rP

    def test_a_fast_device_is_drained_in_one_look(self, new_run, late_device):
        """However many answers there are, one look takes them all."""
        run = new_run(snapshots={"cpu": late_device}, flush_interval=60)
        for step in range(3000):
            run.log({"loss": tensor(step)}, step=step)
        assert run.flush()
        late_device.release()
        assert run.flush()

        assert run.statistics().device_pending == 0
        run.close()


class TestThreads:
    def test_requests_from_the_loop_while_values_are_late(self, new_run, jittery_device):
        """A subscriber sees late values and stops the run; the loop learns at its safe point."""
        run = new_run(snapshots={"cpu": jittery_device(5)}, flush_interval=0.005)

        @run.on(MetricsLogged)
        async def watch(event, control):
            await asyncio.sleep(0)
            if event.metrics["loss"] >= 50:
                control.request(Stop(reason="far enough"))

        step, deadline = 0, time.monotonic() + 15
        while not run.safe_point(step).stop and time.monotonic() < deadline:
            step += 1
            run.log({"loss": tensor(step)}, step=step)
            threading.Event().wait(0.001)
        run.close()

        assert step >= 50
        JournalAsserter(run.dir).complete().ends("stopped")
