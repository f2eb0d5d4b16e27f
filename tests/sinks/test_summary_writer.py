"""A SummaryWriter of the program's own on a disk that is full; tests/vendors has torch's."""

import errno
import logging
import os

from bus import Pace, sync_run
from runtime import Run
from sinks.tensorboard import SummaryWriterSink
from tests.sinks.local_sinks import metrics, write_run


class Writer:
    """Keeps scalars, if there is space.

    Attributes:
        space: Whether there is.
        steps: Those of the scalars that it has.
    """

    def __init__(self) -> None:
        self.space = False
        self.steps = []

    def add_scalar(self, _tag, _value, step, _time):
        if not self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.steps.append(step)

    def flush(self):
        pass


def test_a_full_disk(tmp_path, caplog):
    """Is no bug: it is tried again, and everything is there once there is space."""
    run_dir = write_run(tmp_path, metrics([1, 2, 3]))
    writer = Writer()
    pace = Pace(look=0.02, rearm=0.05)
    with caplog.at_level(logging.WARNING):
        (account,) = sync_run(run_dir, [SummaryWriterSink(writer)], timeout=1.0, pace=pace)

    assert account.pending
    assert "No space left" in account.reason
    assert "bug" not in caplog.text
    writer.space = True
    (account,) = sync_run(run_dir, [SummaryWriterSink(writer)])
    assert account.complete
    assert writer.steps == [1, 2, 3]


def test_no_command_is_named_that_does_not_know_it(tmp_path, caplog):
    """What waits at the end is delivered by a program that has the writer."""
    sink = SummaryWriterSink(Writer())
    with (
        caplog.at_level(logging.WARNING),
        Run(name="own", dir=tmp_path, sinks=[sink], close_timeout=0.5) as run,
    ):
        run.log({"loss": 1.0}, step=1)

    assert "hotloop sync" not in caplog.text
    assert f"bus.sync_run(pathlib.Path('{run.dir}'), [...])" in caplog.text
