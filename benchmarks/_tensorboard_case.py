"""Writes scalars with one writer and prints how long that took; a process of its own.

python _tensorboard_case.py FOLDER WRITER CALLS
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The benchmark beside this file is called like the package that torch's writer needs.
sys.path[:] = [each for each in sys.path if Path(each) != Path(__file__).resolve().parent]

from bus import (  # noqa: E402 - after the path is mended
    JOURNAL_FOLDER,
    AttemptInfo,
    Batch,
    Bus,
    BusOptions,
    MetricsLogged,
    Record,
    RunInfo,
    SinkContext,
    State,
    sync_run,
)

BATCH = 1000
NAMES = ("loss", "grad_norm", "learning_rate", "tokens_per_second", "memory")

Timed = Callable[[], None]


def values(call: int) -> dict[str, float]:
    """Five numbers, other ones at each call."""
    return {name: call * 0.001 + index for index, name in enumerate(NAMES)}


def ours(folder: Path, calls: int) -> Timed:
    """The sink with what a delivery would hand it."""
    from sinks.tensorboard import TensorBoardSink  # noqa: PLC0415 - a case of its own

    events = [MetricsLogged(step=call, metrics=values(call)) for call in range(calls)]
    records = [Record(1, 0, seq, event) for seq, event in enumerate(events, start=1)]
    batches = [Batch(records[at : at + BATCH], _commit) for at in range(0, calls, BATCH)]
    sink = TensorBoardSink(log_dir=folder / "events")
    context = SinkContext(run_dir=folder, run_id="bench", name="bench")

    sink.bind(context)

    def write() -> None:
        state: State = sink.open_blocking(context, {})
        for batch in batches:
            state = sink.write_blocking(batch, state)
        sink.close_blocking("finished", state)

    return write


async def _commit(_count: int, _state: State) -> None:
    """Nothing is acknowledged in between."""


def ours_in_python(folder: Path, calls: int) -> Timed:
    """The same where no package computes the checksums."""
    for name in ("google_crc32c", "crc32c"):
        sys.modules[name] = None  # type: ignore[assignment]  # makes the import fail
    return ours(folder, calls)


def from_journal(folder: Path, calls: int) -> Timed:
    """All of a delivery: reading and decoding the journal, cursors, the sink."""
    from sinks.tensorboard import TensorBoardSink  # noqa: PLC0415 - a case of its own

    info = RunInfo.new("bench", None)
    info.attempts.append(AttemptInfo.here(1, None))
    info.save(folder)
    bus = Bus(folder / JOURNAL_FOLDER, attempt=1, options=BusOptions(on_full="block"))
    for call in range(calls):
        bus.publish(MetricsLogged(step=call, metrics=values(call)))
    bus.close(60)

    def write() -> None:
        (account,) = sync_run(folder, [TensorBoardSink(log_dir=folder / "events")])
        if account.delivered != calls:
            raise RuntimeError(f"{account} is not all of it")

    return write


def torch_writer(folder: Path, calls: int) -> Timed:
    """`torch.utils.tensorboard.SummaryWriter` as it comes."""
    return _summary_writer("torch.utils.tensorboard", folder, calls, flush=False)


def torch_flushed(folder: Path, calls: int) -> Timed:
    """The same, flushed at each call, as Transformers' callback does."""
    return _summary_writer("torch.utils.tensorboard", folder, calls, flush=True)


def tensorboardx(folder: Path, calls: int) -> Timed:
    """`tensorboardX.SummaryWriter` as it comes."""
    return _summary_writer("tensorboardX", folder, calls, flush=False)


def _summary_writer(module: str, folder: Path, calls: int, *, flush: bool) -> Timed:
    kind = importlib.import_module(module).SummaryWriter
    logged = [values(call) for call in range(calls)]

    def write() -> None:
        writer = kind(str(folder / "events"))
        for step, metrics in enumerate(logged):
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            if flush:
                writer.flush()
        writer.close()

    return write


CASES = {
    each.__name__: each
    for each in (ours, ours_in_python, from_journal, torch_writer, torch_flushed, tensorboardx)
}


def main() -> None:
    """Measure one case."""
    folder, name, calls = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    write = CASES[name](folder, calls)
    began, cpu = time.perf_counter(), time.process_time()
    write()
    found = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "bytes": sum(each.stat().st_size for each in (folder / "events").iterdir()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
