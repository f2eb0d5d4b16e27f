"""The watchdog of a run and of a trainer in one process, on real threads and a real clock."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import runtime
from bus import AlertRaised, Event, JournalReader, StallDetected, StallEnded
from runtime._watchdog_stacks import look, stacks
from runtime._watchdog_workers import look_after, named_in
from tests.waiting import HANG, eventually

FLOOR = 0.5


def told(run: runtime.Run, *kinds: type[Event]) -> list[Event]:
    """What is in its journal."""
    return [record.event for record in JournalReader(run.dir).records(types=kinds)]


def stalls_at(run: runtime.Run, place: str = "") -> list[StallDetected]:
    """The stalls reported so far with this in their stacks; a busy machine may have others."""
    run.flush()
    stalls = [each for each in told(run, StallDetected) if isinstance(each, StallDetected)]
    return [each for each in stalls if place in each.stacks[0].stacks]


def train(run: runtime.Run, halt: Callable[[], None]) -> None:
    """Take quick steps until it is known what they take; halt, in the same function; go on."""
    for step in range(300):
        run.safe_point(step)
        time.sleep(0.005)
    halt()
    go_on(run)


def stand_still(run: runtime.Run) -> None:
    """Wait until that is reported."""
    eventually(lambda: stalls_at(run, "stand_still"), HANG)


def go_on(run: runtime.Run) -> None:
    """Take steps until that is reported."""

    def ended() -> bool:
        for step in range(300, 305):
            run.safe_point(step)
            time.sleep(0.005)
        run.flush()
        return bool(told(run, StallEnded))

    eventually(ended, HANG)


def test_a_stall(tmp_path):
    """It is reported while it lasts, with its place and one alert, and so is its end."""
    with runtime.Run("stall", dir=tmp_path, watchdog=FLOOR) as run:
        train(run, lambda: stand_still(run))
    stall = stalls_at(run, "stand_still")[0]
    assert (stall.kind, stall.ranks, stall.phase) == ("rank", (0,), "training")
    assert len(told(run, AlertRaised)) == len(told(run, StallDetected))


def test_switched_off(tmp_path):
    """With 0 there is no watchdog; what is no time is refused."""
    with runtime.Run("off", dir=tmp_path, watchdog=0):
        names = [each.name for each in threading.enumerate()]
    assert "hotloop-watchdog" not in names
    for wrong in (-1, 0.01, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="or 0 for no watchdog"):
            runtime.Run("wrong", dir=tmp_path, watchdog=wrong)


def test_the_interpreter_is_held(tmp_path):
    """C code that keeps the interpreter's lock is reported as soon as it has let go."""
    sleep = ctypes.PyDLL(None).usleep  # which keeps the lock

    def halt() -> None:
        sleep(int(2 * FLOOR * 1e6))
        eventually(lambda: stalls_at(run), HANG)

    with runtime.Run("held", dir=tmp_path, watchdog=FLOOR) as run:
        train(run, halt)
    assert told(run, StallDetected)
    assert told(run, StallEnded)


def wake(run: runtime.Run, process: int) -> None:
    """Let a process go on once a stall is reported."""
    try:
        eventually(lambda: stalls_at(run, "_next_data"), HANG)
    finally:
        os.kill(process, signal.SIGCONT)


class Numbers(Dataset[int]):
    """Some samples."""

    def __len__(self) -> int:
        return 800

    def __getitem__(self, index: int) -> int:
        return index


def test_a_stopped_worker(tmp_path):
    """A loader that gives nothing is told from other code, and its stopped worker is named."""
    with runtime.Run("data", dir=tmp_path, watchdog=FLOOR) as run:
        loader = DataLoader(Numbers(), num_workers=1)

        def train() -> None:
            batches = iter(loader)
            for step in range(300):
                next(batches)
                run.safe_point(step)
                time.sleep(0.005)
            worker = batches._workers[0]  # type: ignore[attr-defined]  # torch's own
            os.kill(worker.pid, signal.SIGSTOP)
            # The loop waits for the worker, so somebody else has to let it go on.
            waker = threading.Thread(target=wake, args=(run, worker.pid))
            waker.start()
            for step, _ in enumerate(batches, start=300):
                run.safe_point(step)
            waker.join()

        train()
    stall = stalls_at(run, "_next_data")[0]
    assert (stall.kind, stall.ranks) == ("data", (0,))
    assert "stopped" in stall.text


class Stuck(torch.nn.Module):
    """A model that stands still in one of its steps until that is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps = 0
        self.wait = lambda: None

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.steps += self.training
        time.sleep(0.005)
        if self.steps == 150 and self.training:
            self.wait()
        if not self.training:
            time.sleep(0.03)
        return {"loss": (x * self.weight).mean()}


def test_a_trainer(tmp_path):
    """Its stall is told with the phase and the place in the model."""
    args = runtime.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=160,
        eval_strategy="steps",
        eval_steps=80,
        save_steps=80,
        per_device_train_batch_size=2,
        disable_tqdm=True,
        watchdog_seconds=FLOOR,
    )
    data = [{"x": torch.ones(1)} for _ in range(512)]
    model = Stuck()
    with runtime.Trainer(model, args, train_dataset=data, eval_dataset=data[:32]) as trainer:
        model.wait = lambda: eventually(lambda: stalls_at(trainer.run, "in Stuck.forward"), HANG)
        trainer.train()
        run = trainer.run
    stall = stalls_at(run, "in Stuck.forward")[0]
    assert (stall.kind, stall.phase) == ("rank", "training")


def test_compiling_is_recognised():
    """While torch.compile compiles, and not while what it made runs."""
    seen: list[str] = []
    over = threading.Event()
    main = threading.get_ident()

    def watch() -> None:
        while not over.wait(0.001):
            seen.append(look(main).activity)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    thread = threading.Thread(target=watch)
    thread.start()
    made = torch.compile(doubled, backend="aot_eager")
    made(torch.ones(3))
    eventually(lambda: "compiling" in seen)
    seen.clear()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        made(torch.ones(3))
    over.set()
    thread.join()
    assert seen
    assert "compiling" not in seen


def test_saving_is_recognised():
    """torch.save, however long its disk takes."""
    seen: list[str] = []

    class File:
        """Looks while something is written to it."""

        def write(self, data: bytes) -> int:
            seen.append(look(threading.get_ident()).activity)
            return len(data)

        def flush(self) -> None:
            """Nothing to do."""

    torch.save({"a": torch.ones(1)}, File())
    assert set(seen) == {"storage"}


def test_stacks_are_bounded():
    """However deep and many; the first thread's innermost frames are there."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, name=f"idle {n}") for n in range(100)]
    for each in threads:
        each.start()
    found: list[str] = []

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            here = threading.get_ident()
            reader = threading.Thread(target=lambda: found.append(stacks(here)))
            reader.start()
            reader.join()

    deep(200)
    over.set()
    for each in threads:
        each.join()
    (text,) = found
    assert len(text) <= 17_000
    assert text.startswith("thread MainThread:")
    assert "in test_stacks_are_bounded.<locals>.deep" in text
    assert "more threads are left out" in text


def test_workers_are_left_to_torch():
    """A death is seen and named, and torch still notices it itself."""
    batches = iter(DataLoader(Numbers(), num_workers=2))
    next(batches)
    assert look_after().dead == ()
    worker = batches._workers[0]  # type: ignore[attr-defined]  # torch's own

    def caught(number: int, frame: object) -> None:
        del number, frame
        eventually(lambda: look_after().dead)
        seen.extend(look_after().dead)

    seen: list[str] = []
    before = signal.signal(signal.SIGCHLD, caught)
    try:
        os.kill(worker.pid, signal.SIGKILL)
        eventually(lambda: seen)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert seen[0] == f"process {worker.pid}, killed by SIGKILL"
    with pytest.raises(RuntimeError, match="DataLoader worker") as failed:
        for _ in batches:
            pass
    assert named_in(str(failed.value)) is not None
    assert named_in("another error (pid 3)") is None


def test_a_thread_that_is_gone():
    """A thread that runs no code of Python's has no place, which is no error."""
    assert look(0).place == ""
