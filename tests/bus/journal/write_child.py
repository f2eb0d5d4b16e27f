"""Appends events to one rank's journal as fast as it can, in batches of any size; a script.

python write_child.py RUN_DIR RANK COUNT SEGMENT_BYTES
"""

import random
import sys
from pathlib import Path

from bus import MetricsLogged, TextLogged, encode
from bus._journal import Journal

if __name__ == "__main__":
    run_dir, rank, count, segment_bytes = sys.argv[1:]
    chance = random.Random(rank)  # noqa: S311 - no secret
    journal = Journal(
        Path(run_dir) / "journal", rank=int(rank), attempt=1, segment_bytes=int(segment_bytes)
    )
    for step in range(int(count)):
        event = MetricsLogged(metrics={"loss": chance.random()}, step=step)
        if chance.random() < 0.01:  # larger than one read of a reader's, now and then
            event = TextLogged(key="k", text="\n" * chance.randrange(1, 100_000), step=step)
        journal.append(encode(event), event.time)
        if chance.random() < 0.1:
            assert journal.flush()
    assert journal.flush()
    journal.close()
