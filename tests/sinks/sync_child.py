"""Delivers a run's journal to one sink, and dies where it is told to; a script.

    python sync_child.py RUN_DIR SINK [BATCH acknowledged|written|torn]

At the batch of this number, from 1, it kills itself: before anything of it is written, when it is
written but not acknowledged, or with only a part of it written.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Final

from bus import Batch, BatchLimits, State, sync_run
from sinks.csv import CsvSink
from sinks.jsonl import JsonlSink
from sinks.tensorboard import TensorBoardSink

CUT: Final = 7
"""Bytes that are missing of a batch that was torn."""


def newest(run_dir: Path) -> Path:
    """The file that was written last."""
    files = [*run_dir.glob("metrics.csv"), *run_dir.glob("events.jsonl")]
    files += [path for path in run_dir.glob("tensorboard/*") if "hparams" not in path.name]
    return max(files, key=lambda path: path.stat().st_mtime_ns)


def main() -> None:
    """Deliver, or die."""
    run_dir, name = Path(sys.argv[1]), sys.argv[2]
    fatal, where = (int(sys.argv[3]), sys.argv[4]) if len(sys.argv) > 3 else (0, "")
    kinds = {"csv": CsvSink, "jsonl": JsonlSink, "tensorboard": TensorBoardSink}
    count = 0

    class Mortal(kinds[name]):  # type: ignore[misc]  # any of the three
        limits = BatchLimits(events=100, age=0)

        def write_blocking(self, batch: Batch, state: State) -> State:
            nonlocal count
            count += 1
            if count == fatal and where == "acknowledged":
                os.kill(os.getpid(), signal.SIGKILL)
            result = super().write_blocking(batch, state)
            if count == fatal:
                if where == "torn":
                    file = newest(run_dir)
                    os.truncate(file, file.stat().st_size - CUT)
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    sync_run(run_dir, [Mortal()])


if __name__ == "__main__":
    main()
