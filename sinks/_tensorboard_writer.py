"""Drives a `SummaryWriter` that the program has made, so that curves and its own pictures meet."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Protocol

from bus import (
    Batch,
    BlockingSink,
    Event,
    HistogramLogged,
    ParametersLogged,
    Promise,
    RejectedError,
    RunStarted,
    SinkContext,
    State,
    TextLogged,
    UnavailableError,
)
from sinks._scalars import NUMBERS, Place, ScalarReader
from sinks._tensorboard_values import histogram_rows, parameter_sections

__all__ = ["SummaryWriter", "SummaryWriterSink"]


class SummaryWriter(Protocol):
    """What is asked of a writer: `torch.utils.tensorboard`'s or `tensorboardX`'s."""

    def add_scalar(
        self,
        tag: str,
        scalar_value: float,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> object:
        """Write a number."""
        ...

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> object:
        """Write a text."""
        ...

    def add_histogram_raw(  # noqa: PLR0917 - as theirs
        self,
        tag: str,
        min: float,  # noqa: A002 - as theirs
        max: float,  # noqa: A002 - as theirs
        num: float,
        sum: float,  # noqa: A002 - as theirs
        sum_squares: float,
        bucket_limits: list[float],
        bucket_counts: list[float],
        global_step: int | None = None,
        bins: str = "tensorflow",
        walltime: float | None = None,
    ) -> object:
        """Write a distribution."""
        ...

    def flush(self) -> object:
        """Bring everything to the disk."""
        ...


class SummaryWriterSink(BlockingSink):
    """Scalars, texts, histograms and settings, by a `SummaryWriter` of the program's own.

    For programs that write pictures or graphs with it themselves. It is called in this sink's
    thread, flushed after each batch, and never closed: it is the program's. Everything is named as
    `TensorBoardSink` names it; hyperparameters and pictures of events are not shown.

    Args:
        writer: The writer.
        rewrite: Whether metrics are renamed as Transformers does; by default if it is
            `runtime.Trainer` that trains.
    """

    name: ClassVar[str] = "tensorboard-writer"
    wants: ClassVar[tuple[type[Event], ...]] = (
        *NUMBERS,
        ParametersLogged,
        TextLogged,
        HistogramLogged,
    )
    portable: ClassVar[bool] = False
    promise: ClassVar[Promise] = Promise(
        delivery="at least once",
        resumed="shows both",
        note="unless the writer was made with purge_step",
    )

    def __init__(self, writer: SummaryWriter, *, rewrite: bool | None = None) -> None:
        super().__init__()
        self._writer = writer
        self._reader = ScalarReader(rewrite)

    def open_blocking(self, context: SinkContext, state: State) -> State:
        """Say where the files are."""
        del context
        folder = getattr(self._writer, "log_dir", None)
        self.url: str | None = None if folder is None else str(folder)
        return state

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Write a batch, down to the disk."""
        place = Place.model_validate(dict(state))
        calls: list[Callable[[], object]] = []
        for index, event in enumerate(batch.events):
            place.pass_by(event)
            try:
                # All of them before any is made: after a refusal the batch comes again.
                calls += self._calls(event, place)
            except ValueError as error:
                raise RejectedError(
                    f"TensorBoard cannot show it: {error}", guilty=(index,)
                ) from error
        try:
            for call in calls:
                call()
            self._writer.flush()
        except OSError as error:
            raise UnavailableError(f"the program's SummaryWriter cannot write: {error}") from error
        return place.model_dump()

    def _calls(self, event: Event, place: Place) -> list[Callable[[], object]]:
        step, time = place.step, event.time
        match event:
            case RunStarted():
                texts = parameter_sections(event.config)
            case ParametersLogged():
                texts = parameter_sections(event.parameters)
            case TextLogged():
                texts = {event.key: event.text}
            case HistogramLogged():
                return [self._histogram(event, step)]
            case _:
                numbers = self._reader.numbers(event, trainer=place.trainer)
                return [
                    partial(self._writer.add_scalar, tag, value, step, time)
                    for tag, value in numbers.items()
                ]
        return [
            partial(self._writer.add_text, name, text, step, time) for name, text in texts.items()
        ]

    def _histogram(self, event: HistogramLogged, step: int) -> Callable[[], object]:
        rows = histogram_rows(event)
        middles = [((left + right) / 2, count) for left, right, count in rows]
        return partial(
            self._writer.add_histogram_raw,
            event.key,
            min=event.edges[0],
            max=event.edges[-1],
            num=sum(event.counts),
            sum=sum(middle * count for middle, count in middles),
            sum_squares=sum(middle * middle * count for middle, count in middles),
            bucket_limits=event.edges[1:],
            bucket_counts=event.counts,
            global_step=step,
            walltime=event.time,
        )
