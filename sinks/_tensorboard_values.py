"""What becomes of an event in TensorBoard: which tags, and values of which kind."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from bus import Event, HistogramLogged, MediaLogged, TextLogged
from sinks._scalars import ScalarReader
from sinks._tensorboard_images import read_picture
from sinks._tfevents import image, scalar, tensor, text

__all__ = ["ValueEncoder", "histogram_rows", "parameter_sections", "parameter_texts"]

_SECTIONS: Final = ("args", "model_config")
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/jpg"})


def parameter_sections(parameters: Mapping[str, JsonValue]) -> dict[str, str]:
    """Settings as texts: `args` and `model_config`, as Transformers' callback writes them.

    Objects under those names become texts of their own; everything else is part of `args`.
    """
    sections: dict[str, dict[str, JsonValue]] = {}
    for name, value in parameters.items():
        if name in _SECTIONS and isinstance(value, dict):
            sections.setdefault(name, {}).update(value)
        else:
            sections.setdefault("args", {})[name] = value
    return {
        name: json.dumps(section, indent=2, ensure_ascii=False)
        for name, section in sorted(sections.items())
    }


def parameter_texts(parameters: Mapping[str, JsonValue]) -> list[bytes]:
    """Settings as values of a summary."""
    sections = parameter_sections(parameters)
    return [text(f"{name}/text_summary", section) for name, section in sections.items()]


@dataclass(slots=True)
class ValueEncoder:
    """Turns events into the values of a summary.

    Attributes:
        scalars: Reads numbers, and says what they are called.
        folder: Where relative paths of pictures are looked up if they are not found otherwise.
    """

    scalars: ScalarReader
    folder: Path

    def values(self, event: Event, *, trainer: bool) -> list[bytes]:
        """An event's values; none if it has nothing to show here.

        `trainer` tells whether it is `runtime.Trainer` that trains.

        Raises:
            ValueError: It cannot be shown.
            OSError: Its picture cannot be read.
        """
        match event:
            case TextLogged():
                return [text(f"{event.key}/text_summary", event.text)]
            case HistogramLogged():
                return [tensor(event.key, "histograms", histogram_rows(event))]
            case MediaLogged():
                return self._pictures(event)
            case _:
                found = self.scalars.numbers(event, trainer=trainer)
                return [scalar(tag, value) for tag, value in found.items()]

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


def histogram_rows(event: HistogramLogged) -> list[tuple[float, float, float]]:
    """Left limit, right limit and count of each bin, as TensorBoard's histograms plugin reads them.

    Raises:
        ValueError: Edges and counts do not fit.
    """
    if not event.counts or len(event.edges) != len(event.counts) + 1:
        raise ValueError(f"{len(event.counts)} counts need one edge more, not {len(event.edges)}")
    bins = zip(pairwise(event.edges), event.counts, strict=True)
    return [(left, right, count) for (left, right), count in bins]
