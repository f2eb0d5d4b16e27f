"""Logs a training to Comet, with us or with Comet's own client; one process each.

Usage: `_comet_case.py ours|client CALLS INTERVAL`, seconds between calls; prints JSON. Where Comet
is stands in the environment.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "perplexity")

Log = Callable[[dict[str, float], int], None]


@contextmanager
def ours() -> Iterator[Log]:
    """A run with the sink in a thread of this process."""
    import runtime  # noqa: PLC0415 - only one of the two is there
    from sinks.comet import CometSink  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory() as folder,
        runtime.Run(name="bench", dir=folder, sinks=[CometSink()], close_timeout=120) as run,
    ):
        yield lambda metrics, step: run.log(metrics, step=step)


@contextmanager
def client() -> Iterator[Log]:
    """Their client without what it collects by itself, which we do not send either."""
    import comet_ml  # noqa: PLC0415

    config = comet_ml.ExperimentConfig(
        auto_metric_logging=False,
        auto_output_logging=False,
        log_code=False,
        log_git_metadata=False,
        log_git_patch=False,
        log_env_details=False,
        log_graph=False,
    )
    experiment = comet_ml.start(experiment_config=config)
    yield lambda metrics, step: experiment.log_metrics(metrics, step=step)
    experiment.end()


def main() -> None:
    """Log so many times five metrics, and wait until Comet has them."""
    kind, calls, interval = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with {"ours": ours, "client": client}[kind]() as log:
        started, used = time.perf_counter(), time.process_time()
        for step in range(calls):
            log({name: step + index / 8 for index, name in enumerate(NAMES)}, step)
            time.sleep(interval)
    found = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}
    sys.stdout.write("\nANSWER " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
