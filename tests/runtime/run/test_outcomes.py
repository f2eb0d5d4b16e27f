"""How a run ends is what the loop did, in the journal, in run.json, and for who reads the state."""

import asyncio

import pytest

from bus import (
    AttemptInfo,
    DecisionApplied,
    MetricsLogged,
    RunEnded,
    RunInfo,
    Stop,
    SubscriberFailed,
    run_state,
)
from bus.testing import JournalAsserter


class WordlessError(Exception):
    """An error that cannot be printed."""

    def __str__(self):
        raise RuntimeError("no words")


def ending(run) -> tuple[str | None, str | None, str | None]:
    """The end as the journal has it; run.json and the run's state must say the same."""
    (ended,) = JournalAsserter(run.dir).complete().of(RunEnded)
    (attempt,) = RunInfo.load(run.dir).attempts
    assert isinstance(attempt, AttemptInfo)
    found = (ended.outcome, ended.error, ended.reason)
    assert found == (attempt.outcome, attempt.error, attempt.reason)
    assert run_state(run.dir) == ended.outcome
    assert attempt.ended is not None
    return found


class TestContextManager:
    def test_finished(self, new_run):
        """A loop that reaches its end has finished."""
        with new_run() as run:
            run.log({"loss": 0.5}, step=1)

        assert ending(run) == ("finished", None, None)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ValueError("bad batch"), ("failed", "ValueError: bad batch", None)),
            (KeyError("x"), ("failed", "KeyError: 'x'", None)),
            (WordlessError(), ("failed", "WordlessError", None)),
            (AssertionError(), ("failed", "AssertionError: ", None)),
            (SystemExit(1), ("failed", "SystemExit: 1", None)),
            (SystemExit("no data"), ("failed", "SystemExit: no data", None)),
            (SystemExit(0), ("finished", None, None)),
            (SystemExit(None), ("finished", None, None)),
            (KeyboardInterrupt(), ("stopped", None, "KeyboardInterrupt")),
        ],
        ids=repr,
    )
    def test_left_by_an_exception(self, new_run, error, expected):
        """The exception passes on unchanged and its text is the run's error."""

        def train():
            with new_run():
                raise error

        with pytest.raises(type(error)) as raised:
            train()
        assert raised.value is error
        run = new_run("gpt", resume="auto")
        folder = run.dir
        run.close()

        first = JournalAsserter(folder).of(RunEnded)[0]
        assert (first.outcome, first.error, first.reason) == expected
        assert RunInfo.load(folder).attempts[0].outcome == expected[0]

    def test_long_texts_and_passwords(self, new_run):
        """An error's text is cut, and the password of a URL in it is masked."""
        run = new_run()
        run.close(error=OSError("postgres://me:hunter2@db/x refused " + "x" * 5000))
        _, error, _ = ending(run)

        assert error is not None
        assert len(error) == 2000
        assert "hunter2" not in error
        assert error.startswith("OSError: postgres://me:***@db/x refused")


class TestStopped:
    def test_by_whom(self, new_run):
        """A Stop that took effect makes the outcome `stopped`, with who asked and why."""
        with new_run() as run:
            run.control.request(Stop(reason="loss diverged", by="watcher"))
            assert run.safe_point(7).stop

        assert ending(run) == ("stopped", None, "watcher: loss diverged")
        JournalAsserter(run.dir).has(DecisionApplied, step=7, by="watcher", reason="loss diverged")

    def test_without_a_reason(self, new_run):
        """Who asked is said in any case; a thread has its name."""
        with new_run() as run:
            run.control.request(Stop())
            assert run.safe_point(7).stop

        assert ending(run) == ("stopped", None, "thread MainThread")

    def test_the_first_counts(self, new_run):
        """Of several stops the first one that took effect is the reason."""
        with new_run() as run:
            for who in ("first", "second"):
                run.control.request(Stop(by=who))
                assert run.safe_point(1).stop

        assert ending(run)[2] == "first"

    def test_asked_but_never_applied(self, new_run):
        """A stop that came after the last safe point did not stop anything."""
        with new_run() as run:
            handle = run.control.request(Stop())

        assert ending(run)[0] == "finished"
        assert not handle.wait(0).applied

    def test_an_error_outweighs_a_stop(self, new_run):
        """A loop that fails while stopping has failed."""
        run = new_run()
        run.control.request(Stop())
        assert run.safe_point(1).stop
        run.close(error=ValueError("while saving"))

        assert ending(run)[:2] == ("failed", "ValueError: while saving")


class TestClose:
    @pytest.mark.parametrize("outcome", ["finished", "failed", "stopped", "preempted", "crashed"])
    def test_explicit_outcome(self, new_run, outcome):
        """What the caller says goes before what can be seen."""
        run = new_run()
        run.close(outcome)

        assert ending(run) == (outcome, None, None)

    def test_explicit_outcome_with_an_error(self, new_run):
        """The error's text is kept beside an outcome given."""
        run = new_run()
        run.close("preempted", error=RuntimeError("SIGTERM"))

        assert ending(run) == ("preempted", "RuntimeError: SIGTERM", None)

    @pytest.mark.parametrize("outcome", ["done", "", 5, ["failed"]])
    def test_unknown_outcome(self, new_run, outcome):
        """An outcome that does not exist is refused by name, and the run stays open."""
        run = new_run()
        with pytest.raises(ValueError, match="must be one of finished, failed, stopped"):
            run.close(outcome)
        run.log({"loss": 0.5}, step=1)
        run.close()

        assert ending(run)[0] == "finished"

    def test_once(self, new_run):
        """The first close counts; later ones, a context manager's too, change nothing."""
        with new_run() as run:
            account = run.close("failed")
            assert run.close("finished") is None

        assert account is not None
        assert account.written
        assert ending(run)[0] == "failed"

    def test_the_last_event_carries_the_statistics(self, new_run):
        """The run's own cost stands at the end of its journal."""
        run = new_run()
        for step in range(200):
            run.log({"loss": 0.5, "bad": None}, step=step)
        run.close()

        (ended,) = JournalAsserter(run.dir).ends("finished").of(RunEnded)
        assert ended.statistics["published"] >= 201
        assert ended.statistics["rejected_values"] == 200
        assert ended.statistics["dropped"] == 0
        assert ended.statistics["publish_samples"] >= 1

    def test_busy_subscribers_are_named(self, new_run, caplog):
        """Who does not end in time is abandoned and named, and what it left unread is counted."""
        run = new_run()

        @run.subscribe(MetricsLogged)
        async def endless(events):
            async for _ in events:
                await asyncio.Event().wait()

        for step in range(3):
            run.log({"loss": 0.5}, step=step)
        account = run.close(timeout=0.5)

        assert account is not None
        assert account.abandoned == ("endless",)
        assert account.unread == {"endless": 2}
        assert "still busy at the end: endless" in caplog.text
        assert "'endless' left 2 events unread" in caplog.text
        assert ending(run)[0] == "finished"

    def test_a_handler_that_fails_is_counted(self, new_run, caplog):
        """A handler's exception is logged once, counted each time, and ends nothing."""
        run = new_run()

        @run.on(MetricsLogged)
        async def broken(_event):
            raise ValueError("a bug of the user's")

        for step in range(3):
            run.log({"loss": 0.5}, step=step)
        run.close()

        assert run.statistics().subscribers["broken"].failures == 3
        assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1
        JournalAsserter(run.dir).has(SubscriberFailed, count=1, subscriber="broken")
        assert ending(run)[0] == "finished"

    def test_everything_is_written_before_the_end(self, new_run, eventually):
        """Whatever was published before the end is written before RunEnded."""
        run = new_run(flush_interval=60)
        for step in range(1000):
            run.log({"loss": 0.5}, step=step)
        account = run.close()

        assert account is not None
        assert (account.written, account.unwritten, account.unread) == (True, 0, {})
        assert len(JournalAsserter(run.dir).complete().ends("finished").records) == 1002
        eventually(lambda: not run.statistics().pending)
