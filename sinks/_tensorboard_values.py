"""What becomes of an event in TensorBoard: which tags, and values of which kind."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from bus import (
    Evaluated,
    Event,
    HistogramLogged,
    MediaLogged,
    MetricsLogged,
    Predicted,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
)
from sinks._tensorboard_images import read_picture
from sinks._tfevents import image, scalar, tensor, text

__all__ = ["ValueEncoder", "parameter_texts", "rewritten"]

_SECTIONS: Final = ("args", "model_config")
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/jpg"})


def rewritten(key: str) -> str:
    """The tag that Transformers' callbacks make of a key: `eval_loss` becomes `eval/loss`."""
    for part in ("eval", "test"):
        if key.startswith(f"{part}_"):
            return f"{part}/{key[len(part) + 1 :]}"
    return f"train/{key}"


def parameter_texts(parameters: Mapping[str, JsonValue]) -> list[bytes]:
    """Settings as texts: `args` and `model_config`, as Transformers' callback writes them.

    Objects under those names become texts of their own; everything else is part of `args`.
    """
    sections: dict[str, dict[str, JsonValue]] = {}
    for name, value in parameters.items():
        if name in _SECTIONS and isinstance(value, dict):
            sections.setdefault(name, {}).update(value)
        else:
            sections.setdefault("args", {})[name] = value
    return [
        text(f"{name}/text_summary", json.dumps(section, indent=2, ensure_ascii=False))
        for name, section in sorted(sections.items())
    ]


@dataclass(slots=True)
class ValueEncoder:
    """Turns events into the values of a summary.

    Attributes:
        rewrite: Whether keys of metrics are renamed as `rewritten` says.
        folder: Where relative paths of pictures are looked up if they are not found otherwise.
    """

    rewrite: bool
    folder: Path
    _latest: MetricsLogged | None = None

    def values(self, event: Event) -> list[bytes]:
        """An event's values; none if it has nothing to show here.

        Raises:
            ValueError: It cannot be shown.
            OSError: Its picture cannot be read.
        """
        match event:
            case MetricsLogged():
                self._latest = event
                return self._scalars(event.metrics)
            case Evaluated() | Predicted() | TrainEnded():
                return [] if self._is_logged(event) else self._results(event)
            case SystemMetricsLogged():
                return [scalar(f"system/{key}", value) for key, value in event.metrics.items()]
            case _:
                return self._others(event)

    def _others(self, event: Event) -> list[bytes]:
        match event:
            case TextLogged():
                return [text(f"{event.key}/text_summary", event.text)]
            case HistogramLogged():
                return [_histogram(event)]
            case MediaLogged():
                return self._pictures(event)
            case _:
                return []

    def _scalars(self, metrics: Mapping[str, float]) -> list[bytes]:
        if self.rewrite:
            return [scalar(rewritten(key), value) for key, value in metrics.items()]
        return [scalar(key, value) for key, value in metrics.items()]

    def _results(self, event: Evaluated | Predicted | TrainEnded) -> list[bytes]:
        """Scalars of a data set, apart from those of the same name that training logs."""
        if isinstance(event, TrainEnded):
            return self._scalars(event.metrics)
        where = "test" if isinstance(event, Predicted) else event.dataset or "eval"
        return [scalar(self._tag(key, where), value) for key, value in event.metrics.items()]

    def _tag(self, key: str, where: str) -> str:
        if not key.startswith(("eval", "test")):
            return f"{where}/{key}"
        return rewritten(key) if self.rewrite else key

    def _is_logged(self, event: Evaluated | Predicted | TrainEnded) -> bool:
        """Whether the same numbers were just logged, as Transformers' trainer does."""
        latest = self._latest
        return (
            latest is not None
            and latest.step == event.step
            and event.metrics.items() <= latest.metrics.items()
        )

    def _pictures(self, event: MediaLogged) -> list[bytes]:
        if event.media_type not in _PICTURES:
            return []
        path = Path(event.path)
        picture = read_picture(path if path.exists() else self.folder / path)
        return [
            image(
                event.key,
                picture.encoded,
                width=picture.width,
                height=picture.height,
                channels=picture.channels,
            )
        ]


def _histogram(event: HistogramLogged) -> bytes:
    """Rows of left limit, right limit and count, as TensorBoard's histograms plugin reads them.

    Raises:
        ValueError: Edges and counts do not fit.
    """
    if not event.counts or len(event.edges) != len(event.counts) + 1:
        raise ValueError(f"{len(event.counts)} counts need one edge more, not {len(event.edges)}")
    bins = zip(pairwise(event.edges), event.counts, strict=True)
    rows = [(left, right, count) for (left, right), count in bins]
    return tensor(event.key, "histograms", rows)
