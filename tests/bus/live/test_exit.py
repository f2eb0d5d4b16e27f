"""However a process ends, its run says how: the interpreter's real end, in real processes."""

from pathlib import Path

import pytest

from bus import JOURNAL_FOLDER, JournalReader, MetricsLogged, RunEnded, RunInfo, run_state
from bus.testing import JournalAsserter

pytestmark = pytest.mark.slow

OPEN = """
import runtime
run = runtime.Run(name="r", dir=FOLDER)
for step in range(100):
    run.log({"n": float(step)}, step=step)
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "r"


@pytest.fixture
def ended(run_dir):
    """The run's end, after checking that its 100 events are there and nothing follows it."""

    def check() -> RunEnded:
        asserter = JournalAsserter(run_dir).complete().begins()
        assert [event.step for event in asserter.of(MetricsLogged)][:100] == list(range(100))
        last = asserter.events[-1]
        assert isinstance(last, RunEnded)
        [attempt] = RunInfo.load(run_dir).attempts
        assert attempt.outcome == last.outcome == run_state(run_dir)
        return last

    return check


def test_the_end_of_the_script(run_script, ended):
    """A run that nobody closed is finished when the interpreter ends."""
    process = run_script(OPEN)
    assert (process.code, process.err) == (0, "")
    assert ended().outcome == "finished"


def test_a_run_that_went_out_of_scope(run_script, ended):
    """Nobody holds the run any more, and it is closed all the same."""
    indented = "\n    ".join(OPEN.splitlines())
    process = run_script(f"def train():\n    {indented}\n\ntrain()\nimport gc; gc.collect()")
    assert (process.code, process.err) == (0, "")
    assert ended().outcome == "finished"


def test_an_uncaught_exception(run_script, ended):
    """The outcome is failed and names the exception, with or without a with block."""
    process = run_script(f"{OPEN}\nraise ValueError('loss exploded')")
    assert process.code == 1
    assert "ValueError: loss exploded" in process.err
    assert (ended().outcome, ended().error) == ("failed", "ValueError: loss exploded")


@pytest.mark.parametrize(
    ("leaving", "code", "outcome", "error"),
    [
        ("pass", 0, "finished", None),
        ("sys.exit(0)", 0, "finished", None),
        ("sys.exit(3)", 3, "failed", "SystemExit: 3"),
        ("raise ValueError('no')", 1, "failed", "ValueError: no"),
        ("raise KeyboardInterrupt", -2, "stopped", None),
        ("run.control.request(Stop(reason='enough')); run.safe_point(1)", 0, "stopped", None),
    ],
)
def test_leaving_a_with_block(run_script, ended, *, leaving, code, outcome, error):
    """The exception that leaves the block decides, and goes on its way."""
    process = run_script(f"""
import sys
import runtime
from bus import Stop
with runtime.Run(name="r", dir=FOLDER) as run:
    for step in range(100):
        run.log({{"n": float(step)}}, step=step)
    {leaving}
""")
    assert process.code == code
    assert (ended().outcome, ended().error) == (outcome, error)


def test_sys_exit_without_a_with_block(run_script, ended):
    """The run is closed; that the program left early on purpose is no failure."""
    process = run_script(f"{OPEN}\nimport sys; sys.exit(0)")
    assert process.code == 0
    assert ended().outcome == "finished"


def test_a_keyboard_interrupt_from_outside(run_script, ended):
    """SIGINT in the middle of the loop stops the run and still writes everything."""
    process = run_script(f"""{OPEN}
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit SIG_IGN
os.kill(os.getpid(), signal.SIGINT)
while True:
    run.log({{"n": 0.0}})
""")
    assert process.code == -2
    assert (ended().outcome, ended().reason) == ("stopped", "KeyboardInterrupt")


def test_os_exit_is_a_crash(run_script, run_dir):
    """Nobody could write an end; readers conclude it, and what was flushed is there."""
    process = run_script(f"{OPEN}\nrun.flush()\nimport os; os._exit(7)")
    assert process.code == 7
    assert run_state(run_dir) == "crashed"
    asserter = JournalAsserter(run_dir).complete()
    assert len(asserter.of(MetricsLogged)) == 100
    assert not asserter.of(RunEnded)


def test_exit_handlers_of_the_users_own(run_script, ended):
    """They may log and close too late: a warning, no exception, the outcome stands."""
    process = run_script(f"""
import atexit
def late():
    run.log({{"n": -1.0}})
    run.publish(bus.MessageLogged(text="late"))
    assert run.close() is None
    print("handled")
atexit.register(late)
{OPEN}
import bus
""")
    assert (process.code, process.out) == (0, "handled\n")
    assert process.err.count("what is logged now is lost") == 1
    assert "Traceback" not in process.err
    assert ended().outcome == "finished"


def test_an_exit_handler_that_fails(run_script, ended):
    """Its failure is its own."""
    process = run_script(f"{OPEN}\nimport atexit; atexit.register(lambda: 1 / 0)")
    assert "ZeroDivisionError" in process.err
    assert ended().outcome == "finished"


def test_a_thread_that_goes_on_logging(run_script, ended):
    """A non-daemon thread outlives the run without an exception and does not hold its end."""
    process = run_script(f"""{OPEN}
import threading
def work():
    while run._open:
        run.log({{"n": 0.0}})
    run.log({{"n": 0.0}})
    print("thread ended")
threading.Thread(target=work).start()
""")
    assert (process.code, process.out) == (0, "thread ended\n")
    assert "Traceback" not in process.err
    assert ended().outcome == "finished"


@pytest.mark.parametrize(
    "body",
    ["time.sleep(60)", "await asyncio.sleep(60)", "await stubborn()", "raise SystemExit(9)"],
)
def test_a_subscriber_that_misbehaves_at_the_end(run_script, ended, body):
    """The process ends within the run's closing time, as if the subscriber were not there."""
    process = run_script(f"""
import asyncio, time
import runtime
from bus import Event
run = runtime.Run(name="r", dir=FOLDER, close_timeout=0.6)

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

@run.on(Event)
async def misbehaves(event: Event) -> None:
    {body}

for step in range(100):
    run.log({{"n": float(step)}}, step=step)
""")
    assert process.code == 0
    assert ended().outcome == "finished"


def test_a_subscriber_sees_the_end_of_the_process(run_script, ended):
    """A program that just ends still lets its subscribers finish their work."""
    process = run_script("""
import runtime
from bus import MetricsLogged, RunEnded
run = runtime.Run(name="r", dir=FOLDER)

@run.subscribe(MetricsLogged, RunEnded)
async def count(events):
    seen = [event.type async for event in events]
    print(seen.count("metrics_logged"), seen[-1])

for step in range(100):
    run.log({"n": float(step)}, step=step)
""")
    assert (process.code, process.out) == (0, "100 run_ended\n")
    assert ended().outcome == "finished"


def test_several_open_runs(run_script, tmp_path):
    """Each is closed."""
    process = run_script("""
import runtime
runs = [runtime.Run(name="r", dir=FOLDER) for _ in range(3)]
""")
    assert process.code == 0
    for name in ("r", "r-2", "r-3"):
        assert (tmp_path / name / JOURNAL_FOLDER).is_dir()
        assert run_state(tmp_path / name) == "finished"
        assert list(JournalReader(tmp_path / name).records(types=(RunEnded,)))
