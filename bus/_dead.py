"""Dead letters: what a destination refused for good, in `dead/<sink>.jsonl`, with its words."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from bus._event import decode, encode
from bus._reader import Record

DEAD_FOLDER: Final = "dead"


class DeadLetter(BaseModel):
    """An event that was refused.

    Attributes:
        time: When, in Unix seconds.
        attempt: Its place in the journal, with `rank` and `seq`.
        why: The destination's words.
        event: The event as the journal holds it.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    time: float
    attempt: int
    rank: int
    seq: int
    why: str
    event: dict[str, JsonValue]


class DeadLetters:
    """The dead letters of one sink; every method touches the disk."""

    def __init__(self, run_dir: Path, sink: str) -> None:
        self.path: Path = run_dir / DEAD_FOLDER / f"{sink}.jsonl"
        self._kept: list[DeadLetter] = []

    def bury(self, record: Record, why: str) -> None:
        """Append one.

        Raises:
            OSError: The disk refused.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = DeadLetter(
            time=time.time(),
            attempt=record.attempt,
            rank=record.rank,
            seq=record.seq,
            why=why,
            event={},
        ).model_dump_json(exclude={"event"})
        line = head.encode()[:-1] + b',"event":' + encode(record.event) + b"}\n"
        with self.path.open("ab") as file:
            file.write(line)

    def read(self) -> Iterator[tuple[DeadLetter, Record | None]]:
        """Every letter that can be read, with its record unless nothing can be made of that."""
        try:
            raws = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for raw in raws:
            try:
                letter = DeadLetter.model_validate_json(raw)
            except ValidationError:
                continue
            yield letter, _record(letter, raw)

    def keep(self, letter: DeadLetter) -> None:
        """Have `replace` write this one again."""
        self._kept.append(letter)

    def replace(self) -> None:
        """Leave only what was kept; nothing of it is lost if the disk refuses.

        Raises:
            OSError: The disk refused.
        """
        if not self._kept and not self.path.exists():
            return
        temporary = self.path.with_suffix(".new")
        temporary.write_bytes(b"".join(e.model_dump_json().encode() + b"\n" for e in self._kept))
        temporary.replace(self.path)
        self._kept.clear()


def _record(letter: DeadLetter, raw: bytes) -> Record | None:
    try:
        event = decode(raw[raw.index(b',"event":') + len(b',"event":') : -1])
    except ValueError:
        return None
    return Record(letter.attempt, letter.rank, letter.seq, event)
