"""Python's logging on our bus: a program's own lines stand in the journal, and reach sinks.

python examples/bridge_logging.py
"""

import logging
from pathlib import Path

import runtime
from runtime.bridges.logging import BusHandler

log = logging.getLogger("my_training")


def main() -> Path:
    """Log two lines, one of an error; returns the run's folder."""
    with runtime.Run(name="bridge_logging") as run:
        handler = BusHandler(run, level=logging.INFO)
        log.addHandler(handler)
        log.warning("the data has %d empty samples", 3)
        try:
            Path("shard-17").read_bytes()
        except OSError:
            log.exception("a shard is left out")
        log.removeHandler(handler)
    return run.dir


if __name__ == "__main__":
    print(main())
