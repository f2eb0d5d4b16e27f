"""Writes TensorBoard's event files, without TensorBoard, TensorFlow or any other package.

Each process and attempt has a file of its own, and a batch is one write. The sink's state holds the
file's name and its length at the last acknowledged batch; a process that goes on cuts off what lies
behind that before it begins its own file, because TensorBoard reads nothing behind a torn record
and shows twice what is there twice.
"""

import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field

from bus import (
    Batch,
    BlockingSink,
    Evaluated,
    Event,
    HistogramLogged,
    MediaLogged,
    MetricsLogged,
    Outcome,
    ParametersLogged,
    Predicted,
    Promise,
    RejectedError,
    RunEnded,
    RunStarted,
    SinkContext,
    SinkSettings,
    State,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
    TrainerInitialized,
)
from sinks._files import append, check_folder, cut, refusals, size_of
from sinks._scalars import ScalarReader
from sinks._tensorboard_hparams import flattened, session_ended, session_goes_on, session_started
from sinks._tensorboard_state import Remembered, Stream
from sinks._tensorboard_values import ValueEncoder, parameter_texts
from sinks._tensorboard_writer import SummaryWriter, SummaryWriterSink
from sinks._tfevents import LARGEST_STEP, session_start, summary, version

__all__ = ["SummaryWriter", "SummaryWriterSink", "TensorBoardSink"]

log: logging.Logger = logging.getLogger("sinks")

_PREFIX: Final = "events.out.tfevents."
_NAMELESS: Final = re.compile(r"[^A-Za-z0-9_-]")


class TensorBoardSink(BlockingSink):
    """A folder of event files: scalars, texts, histograms, pictures, settings and the outcome.

    Scalars have the user's own keys, results of an evaluation the data set's name before them
    (`eval/loss`), numbers about the machine `system/`. Wall times are the events' own; an event
    without a step has the last one before it. The run's settings are texts (`args`,
    `model_config`) and hyperparameters in the same folder. A subclass with `ranks = "all"` gives
    each other rank a folder of its own, `rank1` and so on, which TensorBoard shows as runs.
    Pictures are PNG or JPEG files; other media, alerts and messages are not shown.

    Delivery: exactly once, crashes included, as long as the disk keeps what it was given. A
    TensorBoard that was open during a crash may show the last second twice until it is reloaded.
    What a resume replaced is hidden: a session log tells TensorBoard to drop it.
    """

    name: ClassVar[str] = "tensorboard"
    wants: ClassVar[tuple[type[Event], ...]] = (
        RunStarted,
        RunEnded,
        TrainerInitialized,
        ParametersLogged,
        MetricsLogged,
        Evaluated,
        Predicted,
        TrainEnded,
        SystemMetricsLogged,
        TextLogged,
        HistogramLogged,
        MediaLogged,
    )
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="rewrites",
        note="The part of a file that was not acknowledged is cut off before the next process "
        "begins its own; a power failure may cost the last points.",
    )

    class Settings(SinkSettings, env_prefix="HOTLOOP_TENSORBOARD_", populate_by_name=True):
        """Where the event files are, and what scalars are called."""

        log_dir: Path | None = Field(
            default=None,
            validation_alias="TENSORBOARD_LOGGING_DIR",
            description="The folder of this run's event files; `tensorboard` in the run's folder "
            "by default.",
        )
        rewrite: bool | None = Field(
            default=None,
            description="Whether metrics are renamed as Transformers does: `eval_loss` to "
            "`eval/loss`, `test_loss` to `test/loss`, any other to `train/...`; by default if it "
            "is `runtime.Trainer` that trains.",
        )

    _run_dir: Path
    _folder: Path
    _run_id: str
    _encoder: ValueEncoder

    def bind(self, context: SinkContext) -> None:
        """Take a relative path as the program means it, which may change its folder later."""
        settings = self.settings
        assert isinstance(settings, TensorBoardSink.Settings)
        self._run_dir = context.run_dir.absolute()
        self._run_id = _NAMELESS.sub("-", context.run_id)[-32:]
        given = settings.log_dir
        self._folder = self._run_dir / "tensorboard" if given is None else given.absolute()
        self._encoder = ValueEncoder(ScalarReader(settings.rewrite), self._run_dir)

    def check_blocking(self) -> str:
        """Whether files can be made where they are to be."""
        return check_folder(self._folder)

    def open_blocking(self, context: SinkContext, state: State) -> State:
        """Cut off what was not acknowledged, and choose the name of this process's file."""
        del context  # `bind` has seen it
        where = self._relative(self._folder)
        known = Remembered.model_validate({"folder": where, **state})
        with refusals(self._folder):
            self._undo(known)
            self._folder.mkdir(parents=True, exist_ok=True)
        if known.folder != where:
            known.folder, known.streams, known.hparams_shown = where, {}, False
        for stream in known.streams.values():
            stream.file, stream.bytes = "", 0
        self._reserve(known)
        self.url: str | None = self._folder.as_uri()
        return known.model_dump(mode="json")

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Append a batch in one write."""
        known = Remembered.model_validate(dict(state))
        before = known.streams.get(str(batch.rank))
        stream = (before or Stream(attempt=batch.attempt)).model_copy()
        known.streams[str(batch.rank)] = stream
        data = self._records(batch, known, stream)
        folder = self._folder_of(batch.rank)
        new_attempt = before is None or before.attempt < batch.attempt
        with refusals(folder):
            if new_attempt or not self._is_whole(folder, stream):
                data = _beginning(batch, known, new_attempt=new_attempt) + data
                folder.mkdir(parents=True, exist_ok=True)
                stream.attempt = max(stream.attempt, batch.attempt)
                stream.file, stream.bytes = known.next, 0
                self._reserve(known)
            if data:
                stream.bytes = append(folder / stream.file, stream.bytes, data)
        return known.model_dump(mode="json")

    def close_blocking(self, outcome: Outcome, state: State) -> State:
        """Tell how the run ended, where TensorBoard shows its settings."""
        known = Remembered.model_validate(dict(state))
        if known.closed == outcome or not known.hparams:
            return state
        ended = session_ended(outcome, known.latest)
        values = [ended] if known.hparams_shown else [self._started(known), ended]
        stream = known.streams.get("0")
        with refusals(self._folder):
            if stream is not None and self._is_whole(self._folder, stream):
                data = summary(known.latest, stream.step, values)
                stream.bytes = append(self._folder / stream.file, stream.bytes, data)
            self._tell_first([self._started(known), ended], known)
        known.closed, known.hparams_shown = outcome, True
        return known.model_dump(mode="json")

    def _records(self, batch: Batch, known: Remembered, stream: Stream) -> bytes:
        """A batch as records.

        Raises:
            RejectedError: An event cannot be written.
        """
        found: list[bytes] = []
        for index, record in enumerate(batch):
            event = record.event
            stream.step = stream.step if event.step is None else event.step
            known.latest = max(known.latest, event.time)
            try:
                values = self._values(event, known)
            except (ValueError, OSError) as error:
                raise RejectedError(
                    f"TensorBoard cannot show it: {error}", guilty=(index,)
                ) from error
            if isinstance(event, RunStarted):
                stream.step = event.resumed_from_step or 0
            if values:
                found.append(summary(event.time, stream.step, values))
        return b"".join(found)

    def _values(self, event: Event, known: Remembered) -> list[bytes]:
        if event.step is not None and event.step > LARGEST_STEP:
            raise ValueError(f"step {event.step} has more than 63 bits")
        if isinstance(event, RunStarted):
            return self._begin(event, known)
        if isinstance(event, ParametersLogged):
            known.hparams |= flattened(event.parameters)
            return parameter_texts(event.parameters)
        known.trainer = known.trainer or isinstance(event, TrainerInitialized)
        values = self._encoder.values(event, trainer=known.trainer)
        if values and known.hparams and not known.hparams_shown:
            # TensorBoard keeps the first description it reads, so it waits for the settings.
            known.hparams_shown = True
            values.append(self._started(known))
        return values

    def _begin(self, event: RunStarted, known: Remembered) -> list[bytes]:
        known.started = known.started or event.time
        known.hparams |= flattened(event.config)
        if event.resumed_from_step is not None:
            known.resumed_attempt, known.resumed_step = event.attempt, event.resumed_from_step
        if known.closed is not None:
            with refusals(self._folder):
                self._tell_first([self._started(known), session_goes_on()], known)
            known.closed = None
        return parameter_texts(event.config)

    def _started(self, known: Remembered) -> bytes:
        return session_started(known.hparams, known.started)

    def _tell_first(self, values: list[bytes], known: Remembered) -> None:
        """Replace the file that sorts before all others: of each description the first counts."""
        path = self._folder / f"{_PREFIX}{0:010d}.{self._run_id}.hparams"
        fresh = path.with_name(f".{self._run_id}.new")
        append(fresh, 0, version(known.started) + summary(known.started, 0, values))
        fresh.replace(path)

    def _undo(self, known: Remembered) -> None:
        """Remove what another process wrote and nobody acknowledged."""
        folder = self._run_dir / known.folder
        if known.next:
            for path in (folder / known.next, *folder.glob(f"rank*/{known.next}")):
                path.unlink(missing_ok=True)
        for rank, stream in known.streams.items():
            if stream.file:
                cut(_rank_folder(folder, int(rank)) / stream.file, stream.bytes)

    def _is_whole(self, folder: Path, stream: Stream) -> bool:
        """Whether this process's file is there and holds what was acknowledged."""
        if not stream.file:
            return False
        size = size_of(folder / stream.file)
        if size is not None and size >= stream.bytes:
            return True
        log.warning("%s lost points that were there before", folder / stream.file)
        return False

    def _reserve(self, known: Remembered) -> None:
        """Choose the name of the next file, which sorts behind all others."""
        known.number = max(int(time.time()), known.number + 1)
        host = _NAMELESS.sub("-", socket.gethostname())
        known.next = f"{_PREFIX}{known.number:010d}.{host}.{os.getpid()}.{self._run_id}"

    def _relative(self, path: Path) -> str:
        """Relative to the run's folder if it lies in there, which may be moved."""
        inside = path.is_relative_to(self._run_dir)
        return str(path.relative_to(self._run_dir) if inside else path)

    def _folder_of(self, rank: int) -> Path:
        return _rank_folder(self._folder, rank)


def _rank_folder(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}" if rank else folder


def _beginning(batch: Batch, known: Remembered, *, new_attempt: bool) -> bytes:
    """What a file begins with.

    At a session log TensorBoard drops what is at its step and later, but ignores the first one it
    reads in a folder, so an attempt that resumed begins with two.
    """
    time = batch[0].event.time
    if new_attempt and batch.attempt == known.resumed_attempt:
        return version(time) + 2 * session_start(time, known.resumed_step + 1)
    return version(time)
