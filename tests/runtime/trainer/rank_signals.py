"""Trainings of several ranks that get SIGTERM: one rank alone, or all of them one after the other.

    python rank_signals.py FOLDER COUNT SEED     (with what a launcher sets)

`run_signals` starts the ranks once and has them make all trials: the trainer catches the signal and
leaves, and the job goes on with the next trial. Signals that come when a rank has left already, as
they do where the others were faster, reach a handler that does nothing.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import runtime
from bus import RunInfo
from runtime._world import World
from tests.runtime.ranks.launching import launch
from tests.runtime.trainer.preemption_training import Compiled
from tests.runtime.trainer.resume_parts import Samples

SKEW = 0.5
"""Seconds between the signals to the ranks at most."""


class Signals(runtime.TrainerCallback):
    """Sends this process SIGTERM, so many seconds after a step; `None` for not at all."""

    def __init__(self, step: int, delay: float | None) -> None:
        self._step, self._delay = step, delay
        self.sent: list[float] = []
        self._thread: threading.Thread | None = None

    def on_step_end(
        self,
        args: runtime.TrainingArguments,
        state: runtime.TrainerState,
        control: runtime.TrainerControl,
        **_: object,
    ) -> None:
        """Begin to count the seconds."""
        del args, control
        if state.global_step == self._step and self._delay is not None:
            self._thread = threading.Thread(target=self._send, args=(self._delay,))
            self._thread.start()

    def _send(self, delay: float) -> None:
        time.sleep(delay)
        self.sent.append(time.time())
        os.kill(os.getpid(), signal.SIGTERM)

    def wait(self) -> None:
        """Until the signal is sent."""
        if self._thread is not None:
            self._thread.join()


def trial(folder: Path, world: World, number: int, seed: int) -> dict[str, object]:
    """Train until the ranks are told to leave: one of them in even trials, all in odd ones."""
    shared = random.Random(seed * 1000 + number)  # noqa: S311 - no secret
    step, one = shared.randint(1, 20), shared.randrange(world.size)
    delays = [shared.uniform(0, SKEW) for _ in range(world.size)]
    told = number % 2 == 1 or one == world.rank
    signals = Signals(step, delays[world.rank] if told else None)
    arguments = runtime.TrainingArguments(
        str(folder),
        max_steps=1_000_000,
        per_device_train_batch_size=2,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=7,
        save_steps=50,
        save_total_limit=1,
        use_cpu=True,
        disable_tqdm=True,
        grace_seconds=60,
    )
    data = {"train_dataset": Samples(50), "eval_dataset": Samples(9)}
    trainer = runtime.Trainer(Compiled(), arguments, callbacks=[signals], **data)
    trainer.remove_callback(runtime.PrinterCallback)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with trainer:
            trainer.train()
    except runtime.Preempted as leaving:
        code = leaving.code
    else:
        code = 0
    ended = time.time()
    signals.wait()
    signal.signal(signal.SIGTERM, before)
    last = trainer.state.global_step
    return {
        "code": code,
        "step": last,
        "saved": (folder / f"checkpoint-{last}").is_dir(),
        "outcome": RunInfo.load(trainer.run.dir).attempts[-1].outcome,
        "sent": signals.sent,
        "ended": ended,
    }


def wrong(ranks: list[dict[str, object]]) -> list[str]:
    """What is not as promised about one trial; given what each rank has written down."""
    expected = {"code": 143, "step": ranks[0]["step"], "saved": True, "outcome": "preempted"}
    return [
        f"rank {rank} has {name}={found[name]!r} and not {value!r}"
        for rank, found in enumerate(ranks)
        for name, value in expected.items()
        if found[name] != value and not (name in ("saved", "outcome") and rank)
    ]


def run_signals(folder: Path, *, size: int, count: int, seed: int) -> tuple[float, list[str]]:
    """Make so many trials; return the longest time to leave, and what was not as promised."""
    ended = launch(__file__, folder, count, seed, size=size, timeout=60 + 30 * count)
    failures = [f"rank {e.rank}: {e}" for e in ended if e.code != 0]
    written = [
        [json.loads(line) for line in (folder / f"rank{rank}.jsonl").read_text().splitlines()]
        for rank in range(size)
    ]
    slowest = 0.0
    for number, ranks in enumerate(zip(*written, strict=False)):
        failures += [f"trial {number}: {each}" for each in wrong([*ranks])]
        first = min(when for rank in ranks for when in rank["sent"])
        slowest = max(slowest, max(rank["ended"] for rank in ranks) - first)
    if any(len(each) != count for each in written):
        failures.append(f"only {[len(each) for each in written]} trials came to their end")
    return slowest, failures


def main(folder: Path, count: int, seed: int) -> None:
    """Make all trials as one rank."""
    world = World.here()
    with (folder / f"rank{world.rank}.jsonl").open("w") as file:
        for number in range(count):
            found = trial(folder / f"trial-{number}", world, number, seed)
            file.write(json.dumps(found) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
