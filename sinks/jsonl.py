"""Keeps a run's events as JSON lines in one file that any program can follow."""

from pathlib import Path
from typing import ClassVar

import orjson
from pydantic import Field, PositiveInt

from bus import Batch, Event, Promise, Record, RejectedError, encode
from sinks._file_sink import FileSettings, FileSink
from sinks._files import AppendedFile

__all__ = ["JsonlSink"]


class JsonlSink(FileSink):
    """Every event as one strict JSON object a line, as `hotloop export --to jsonl` prints them.

    A line is `{"attempt":1,"rank":0,"seq":17,"event":{"type":...,"time":...,"step":...}}`; NaN and
    infinities are the strings "NaN", "Infinity" and "-Infinity". With `max_bytes`, a file that
    would grow beyond it becomes `events.000001.jsonl`, `events.000002.jsonl` and so on, and
    `events.jsonl` begins anew; a line longer than that has a file for itself.

    Delivery: exactly once, crashes included, as long as the disk keeps what it was given. What a
    resume replaced stays: the later attempt's `run_started` names the step beyond which it counts.
    """

    name: ClassVar[str] = "jsonl"
    wants: ClassVar[tuple[type[Event], ...]] = (Event,)
    default: ClassVar[str] = "events.jsonl"
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="shows both",
        note="The part of the file that was not acknowledged is cut off before the next write; "
        "a power failure may cost the last lines.",
    )

    class Settings(FileSettings, env_prefix="HOTLOOP_JSONL_"):
        """Where the file is and when it is rotated."""

        max_bytes: PositiveInt | None = Field(
            default=None, description="Size beyond which another file begins; None for never."
        )
        keep: PositiveInt | None = Field(
            default=None, description="How many full files are kept; None for all of them."
        )

    @property
    def keep(self) -> int | None:
        """How many earlier parts of the file stay for good; None for all of them."""
        return self._options.keep

    def kept(self, path: Path, part: int) -> Path:
        """Where an earlier part of the file is."""
        return path.with_stem(f"{path.stem}.{part:06d}")

    def write_lines(self, file: AppendedFile, batch: Batch) -> None:
        """Append a batch, in as many files as it takes."""
        limit = self._options.max_bytes
        pending: list[bytes] = []
        size = file.size
        for line in _lines(batch):
            if limit is not None and size and size + len(line) > limit:
                file.append(b"".join(pending))
                file.begin_part()
                pending, size = [], 0
            pending.append(line)
            size += len(line)
        file.append(b"".join(pending))

    @property
    def _options(self) -> Settings:
        assert isinstance(self.settings, JsonlSink.Settings)
        return self.settings


def _lines(batch: Batch) -> list[bytes]:
    """A batch's lines.

    Raises:
        RejectedError: An event cannot be encoded.
    """
    lines: list[bytes] = []
    for index, record in enumerate(batch):
        try:
            lines.append(_line(record))
        except ValueError as error:
            raise RejectedError(f"it is no JSON: {error}", guilty=(index,)) from error
    return lines


def _line(record: Record) -> bytes:
    place = {"attempt": record.attempt, "rank": record.rank, "seq": record.seq}
    return orjson.dumps(place)[:-1] + b',"event":' + encode(record.event) + b"}\n"
