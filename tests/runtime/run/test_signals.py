"""Signals become requests whatever the main thread does; afterwards all is as before."""

import os
import signal
import threading
import time

import pytest

from bus import AlertRaised, DecisionApplied, JournalReader, Preempt, RunInfo, Stop
from bus import deferred_interrupt as deferred
from tests.runtime.run import signal_children
from tests.runtime.trainer.nursery import started
from tests.waiting import HANG

CAUGHT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers():
    """What was there before a test is there afterwards, also if it fails."""
    before = {number: signal.getsignal(number) for number in CAUGHT}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


def as_before(handlers) -> bool:
    found = {number: signal.getsignal(number) for number in CAUGHT}
    nobody = signal.set_wakeup_fd(-1) == -1
    return found == handlers and nobody


class TestAsking:
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
    def test_preempts(self, new_run, handlers, eventually, name):
        """It takes effect at the next safe point, with its deadline; the run ends as preempted."""
        run = new_run()
        run.catch_signals(grace_seconds=60)
        asked = time.time()
        signal.raise_signal(signal.Signals[name])
        eventually(lambda: run.control.pending)
        decision = run.safe_point(3)
        (request,) = decision.of(Preempt)
        assert decision.stop
        assert (request.by, request.signal) == (name, name)
        assert request.deadline is not None
        assert asked + 60 <= request.deadline <= time.time() + 60
        run.close()
        last = RunInfo.load(run.dir).attempts[-1]
        assert last.outcome == "preempted"
        assert last.reason == f"{name}: 60 s to the deadline"
        assert as_before(handlers)

    def test_without_a_deadline(self, new_run, eventually, monkeypatch):
        """Nobody said how long there is, or the environment does."""
        for text, known in (("", False), ("12.5", True)):
            monkeypatch.setenv("HOTLOOP_GRACE_SECONDS", text)
            run = new_run()
            run.catch_signals()
            signal.raise_signal(signal.SIGTERM)
            eventually(lambda run=run: run.control.pending)
            (request,) = run.safe_point(1).of(Preempt)
            assert (request.deadline is not None) == known
            run.close()

    @pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
    def test_a_grace_that_is_none(self, new_run, monkeypatch, text):
        """It is refused when it is read, with where it came from."""
        monkeypatch.setenv("HOTLOOP_GRACE_SECONDS", text)
        with pytest.raises(ValueError, match=f"HOTLOOP_GRACE_SECONDS='{text}' must be seconds"):
            new_run().catch_signals()

    def test_ctrl_c_asks_and_then_insists(self, new_run, handlers, eventually, capfd):
        """The first one stops after the step and says so, the second one interrupts."""
        run = new_run()
        run.catch_signals()
        signal.raise_signal(signal.SIGINT)
        eventually(lambda: run.control.pending)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        (request,) = run.safe_point(1).of(Stop)
        assert (request.by, request.reason) == ("SIGINT", "Ctrl-C")
        eventually(lambda: "Ctrl-C once more" in capfd.readouterr().err)
        run.close()
        assert RunInfo.load(run.dir).attempts[-1].outcome == "stopped"
        assert as_before(handlers)

    def test_insisting_is_put_off_where_something_would_be_left_half_done(self, new_run):
        """As any Ctrl-C is; the one that asks interrupts nothing there either."""
        run = new_run()
        run.catch_signals()
        done = []

        def work() -> None:
            with deferred():
                signal.raise_signal(signal.SIGINT)
                done.append("asked")
            with deferred():
                signal.raise_signal(signal.SIGINT)
                done.append("insisted")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["asked", "insisted"]

    def test_the_deadline_comes_near(self, new_run, eventually):
        """That the loop has reached no safe point is in the journal before it is too late."""
        run = new_run()
        run.catch_signals(grace_seconds=0.2)
        signal.raise_signal(signal.SIGTERM)

        def alerts() -> list[str]:
            records = JournalReader(run.dir).records(types=(AlertRaised,))
            return [record.event.text for record in records]

        eventually(alerts)
        (text,) = alerts()
        assert text.startswith("SIGTERM: the deadline is near and the loop has reached no safe")

    def test_two_runs(self, new_run, handlers, eventually):
        """Both are asked; the last one to close leaves everything as it was."""
        one, other = new_run(), new_run()
        for run in (one, other):
            run.catch_signals()
        signal.raise_signal(signal.SIGTERM)
        eventually(lambda: one.control.pending and other.control.pending)
        one.close()
        assert signal.getsignal(signal.SIGTERM) is not handlers[signal.SIGTERM]
        other.close()
        assert as_before(handlers)


class TestNeighbours:
    def test_who_was_there_before_is_called(self, new_run, eventually):
        """A handler and a wakeup descriptor, both of which are back when the run is closed."""
        seen: list[int] = []

        def handle(number: int, _frame: object) -> None:
            seen.append(number)

        signal.signal(signal.SIGUSR1, handle)
        read, write = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(write)
        run = new_run()
        run.catch_signals()
        signal.raise_signal(signal.SIGUSR1)
        eventually(lambda: run.control.pending)
        assert seen == [signal.SIGUSR1]
        assert os.read(read, 10) == bytes([signal.SIGUSR1])
        run.close()
        assert signal.getsignal(signal.SIGUSR1) is handle
        assert signal.set_wakeup_fd(-1) == write
        os.close(read)
        os.close(write)

    def test_what_is_ignored_stays_so(self, new_run):
        """`nohup` and `trap ''` mean it."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        run = new_run()
        run.catch_signals()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        run.close()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN

    def test_outside_the_main_thread(self, new_run, handlers, caplog):
        """It is said, and nothing is changed."""
        run = new_run()
        thread = threading.Thread(target=run.catch_signals, name="elsewhere")
        thread.start()
        thread.join()
        assert "elsewhere is not the main thread" in caplog.text
        assert not run.catches_signals
        assert as_before(handlers)

    def test_closed_by_another_thread(self, new_run, handlers):
        """Only the main thread can put handlers back, and does with the next signal."""
        run = new_run()
        run.catch_signals()
        thread = threading.Thread(target=run.close)
        thread.start()
        thread.join()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert as_before(handlers)


@pytest.fixture(scope="module")
def nursery():
    """Forks the processes of `signal_children`."""
    with started(signal_children.__file__) as made:
        yield made


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
    def test_a_loop_ends_by_itself(self, nursery, tmp_path, name):
        """The process goes its own way out, and its journal says who asked."""
        pid = nursery.fork(f"loop {tmp_path}")
        assert nursery.lines.next(HANG) == "ready"
        os.kill(pid, signal.Signals[name])
        assert nursery.lines.next(HANG) == "ended 0"
        records = JournalReader(tmp_path / "gpt").records(types=(DecisionApplied,))
        assert [record.event.by for record in records] == [name]

    def test_while_the_main_thread_sits_in_c(self, nursery):
        """The request is there at once, and whoever insists is obeyed though nothing answers."""
        pid = nursery.fork("in_c")
        assert nursery.lines.next(HANG) == "ready"
        os.kill(pid, signal.SIGTERM)
        assert nursery.lines.next(HANG) == "asked"
        line = None
        while line is None:
            os.kill(pid, signal.SIGTERM)
            line = nursery.lines.next(0.1)
        assert line == "ended -15"

    def test_children_stay_terminable(self, nursery):
        """Forked ones from their first moment on, DataLoader's workers, programs; none is heard."""
        nursery.fork("parents")
        heard = [nursery.lines.next(HANG)]
        while heard[-1] is not None and not heard[-1].startswith("ended"):
            heard.append(nursery.lines.next(HANG))
        assert heard == [
            *["fork -15"] * 40,
            *["subprocess -15"] * 5,
            *["worker False"] * 2,
            "asked 0",
            "True",
            "ended 0",
        ]
