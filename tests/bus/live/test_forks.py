"""A forked child warns once, writes nothing, closes nothing, never hangs; the parent goes on."""

from pathlib import Path

import pytest

from bus import MetricsLogged, RunEnded, run_state
from bus.testing import JournalAsserter

pytestmark = pytest.mark.slow

LOST = "in a forked child; what is logged now is lost"


@pytest.fixture
def steps(tmp_path: Path):
    """The steps in the parent's journal, after checking that it is whole and ended well."""

    def read(name: str = "r") -> list[int | None]:
        asserter = JournalAsserter(tmp_path / name).complete().begins().ends("finished")
        asserter.has(RunEnded, count=1)
        assert len(asserter.segments()) == 1
        return [event.step for event in asserter.of(MetricsLogged)]

    return read


@pytest.mark.parametrize("leaving", ["os._exit(0)", "sys.exit(0)", "pass"])
def test_os_fork(run_script, steps, leaving):
    """Everything a child tries with the inherited run is refused without a word to the journal."""
    process = run_script(f"""
import os, sys, time
import runtime
from bus import Evaluated, MetricsLogged, Save, Stop

run = runtime.Run(name="r", dir=FOLDER)

@run.on(MetricsLogged)
async def watch(event: MetricsLogged) -> None: ...

@run.decider(Evaluated, deadline=60)
async def decide(event: Evaluated) -> None: ...

inherited = run.control.request(Save())
run.log({{"n": 1.0}}, step=1)
run.flush()
child = os.fork()
if child == 0:
    for step in range(100, 103):
        run.log({{"n": 0.0}}, step=step)
    run.publish(Evaluated(metrics={{}}))
    assert not run.wants(MetricsLogged)
    assert not run.flush(0.1)
    assert not run.control.request(Stop()).wait(5).applied
    assert not inherited.wait(5).applied
    assert not run.safe_point(1).save
    run.statistics()
    assert run.close() is None
    print("child", flush=True)
    {leaving}
else:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run.log({{"n": 2.0}}, step=2)
    assert run.safe_point(2).save
    print("parent")
""")
    assert (process.code, process.out) == (0, "child\nparent\n")
    assert process.err.count(LOST) == 1
    assert steps() == [1, 2]


def test_a_child_forked_at_once_can_use_asyncio(run_script, steps):
    """The loop's thread is not in the middle of loading what a child may need, too."""
    process = run_script("""
import os, sys
import runtime
from bus import MetricsLogged
run = runtime.Run(name="r", dir=FOLDER)
@run.on(MetricsLogged)
async def watch(event: MetricsLogged) -> None: ...
loaded = set(sys.modules)
child = os.fork()
if child == 0:
    import anyio
    anyio.run(anyio.sleep, 0)
    os._exit(not set(sys.modules) <= loaded)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""")
    assert (process.code, process.err) == (0, "")
    assert steps() == []


def test_subscribing_in_a_child_is_refused(run_script, steps):
    """Nobody there would ever show it an event."""
    process = run_script("""
import os
import runtime
from bus import ClosedError, Event
run = runtime.Run(name="r", dir=FOLDER)
child = os.fork()
if child == 0:
    try:
        @run.on(Event)
        async def watch(event: Event) -> None: ...
    except ClosedError:
        print("refused", flush=True)
    os._exit(0)
os.waitpid(child, 0)
""")
    assert (process.code, process.out) == (0, "refused\n")
    assert steps() == []


def test_a_process_of_multiprocessing(run_script, steps):
    """A worker with the fork start method may log by mistake and ends at once."""
    process = run_script("""
import multiprocessing
import runtime
run = runtime.Run(name="r", dir=FOLDER)

def work():
    for step in range(3):
        run.log({"n": 0.0}, step=100 + step)

workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for step in range(20):
    run.log({"n": 1.0}, step=step)
for worker in workers:
    worker.join(20)
assert [worker.exitcode for worker in workers] == [0, 0, 0]
""")
    assert process.code == 0
    assert process.err.count(LOST) == 3
    assert steps() == list(range(20))


def test_workers_of_a_data_loader(run_script, steps):
    """A data set that logs from its workers costs one warning each, and nothing else."""
    process = run_script("""
import runtime, torch
from bus import MetricsLogged

class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 16
    def __getitem__(self, index):
        run.log({"loaded": torch.tensor(1.0)}, step=1000 + index)
        return torch.tensor(index * index)

with runtime.Run(name="r", dir=FOLDER) as run:
    @run.on(MetricsLogged)
    async def watch(event: MetricsLogged) -> None: ...

    loader = torch.utils.data.DataLoader(
        Squares(), batch_size=4, num_workers=2, multiprocessing_context="fork"
    )
    step = 0
    for epoch in range(2):
        for batch in loader:
            step += 1
            run.log({"sum": batch.sum()}, step=step)
print(step)
""")
    assert (process.code, process.out) == (0, "8\n")
    assert process.err.count(LOST) == 4
    assert steps() == list(range(1, 9))


@pytest.mark.parametrize("durability", ["interval", "write"])
def test_forking_again_and_again_while_publishing(run_script, steps, durability):
    """Whatever lock another thread holds at the moment of a fork, no child ever waits for it."""
    process = run_script(f"""
import os, threading
import runtime
from bus import MessageLogged, MetricsLogged, Save

run = runtime.Run(name="r", dir=FOLDER, durability={durability!r}, flush_interval=0.001)
over = threading.Event()

@run.on(MetricsLogged)
async def watch(event: MetricsLogged) -> None: ...

def talk():
    while not over.wait(0.0005):
        run.publish(MessageLogged(text="x" * 5000))  # heavy: it takes the inbox's lock

talkers = [threading.Thread(target=talk) for _ in range(2)]
for talker in talkers:
    talker.start()
for step in range(25):
    run.log({{"n": 1.0}}, step=step)
    child = os.fork()
    if child == 0:
        run.log({{"n": 0.0}}, step=1000)
        run.publish(MessageLogged(text="child"))
        run.control.request(Save())
        run.safe_point(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
over.set()
for talker in talkers:
    talker.join()
run.close()
""")
    assert process.code == 0, process.err
    assert steps() == list(range(25))


def test_a_run_of_the_childs_own(run_script, steps, tmp_path):
    """A child may open a run, which is closed when the child ends; the parent's is untouched."""
    process = run_script("""
import multiprocessing, os, sys
import runtime

def work(name):
    run = runtime.Run(name=name, dir=FOLDER)
    run.log({"n": 0.0}, step=7)

parent = runtime.Run(name="r", dir=FOLDER)
parent.log({"n": 0.0}, step=1)
worker = multiprocessing.get_context("fork").Process(target=work, args=("worker",))
worker.start()
worker.join(20)
child = os.fork()
if child == 0:
    work("child")
    sys.exit()
os.waitpid(child, 0)
parent.log({"n": 0.0}, step=2)
""")
    assert process.code == 0
    assert steps("r") == [1, 2]
    for name in ("worker", "child"):
        assert steps(name) == [7]
        assert run_state(tmp_path / name) == "finished"


def test_a_launcher_that_imports_and_then_forks(run_script, steps):
    """A process forked before any run existed closes its runs like any other."""
    process = run_script("""
import multiprocessing
import bus, runtime

def work():
    run = runtime.Run(name="r", dir=FOLDER)
    run.log({"n": 0.0}, step=3)

worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join(20)
assert worker.exitcode == 0
""")
    assert process.code == 0
    assert steps() == [3]
