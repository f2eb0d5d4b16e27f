"""One rank's part in asking all ranks what they are doing, over the store that they share.

One key, `watch`, holds the number of the last question, who asked it, and how long that rank stood
still once it goes on. Whoever is late asks, by compare-and-set, so that of many one succeeds; each
rank that reads of a question answers it once, under a key of its own. Rank 0 reports what was
found, because sinks are served there; `watch-told` says that it has. All keys are overwritten, so
that the store does not grow.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from pydantic import ValidationError

from bus import RankStore
from runtime._watchdog_answers import Answer

_KEY: Final = "watch"
_TOLD: Final = "watch-told"


class WatchStore(RankStore, Protocol):
    """What ranks share; its methods raise `OSError` where it does not answer."""

    def get_all(self, keys: Sequence[str]) -> list[bytes] | None:
        """The values of many keys at once; None as long as one of them has none."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What the key holds.

    Attributes:
        number: Which question; 0 before the first.
        asker: The rank that is late.
        lasted: Seconds that it stood still, once it goes on; negative while it does.
    """

    number: int = 0
    asker: int = 0
    lasted: float = 0.0

    @property
    def open(self) -> bool:
        """Whether the asker stands still."""
        return self.lasted < 0

    def encode(self) -> bytes:
        return f"{self.number} {self.asker} {self.lasted:.3f}".encode()

    @classmethod
    def decode(cls, raw: bytes) -> "Question":
        number, asker, lasted = raw.decode().split(" ")
        return cls(int(number), int(asker), float(lasted))


class Questions:
    """One rank's view of the questions.

    Args:
        store: What all ranks share.
        rank: This rank.
        size: How many ranks there are.
    """

    def __init__(self, store: WatchStore, rank: int, size: int) -> None:
        self.rank: int = rank
        self.size: int = size
        self.last: Question = Question()
        self.answered: int = 0
        """The number of the last question that this rank has answered."""
        self._store = store
        self._raw = b""

    def read(self) -> Question:
        """The last question that was asked."""
        raw = self._store.get(_KEY)
        if raw is not None:
            self._learn(raw)
        return self.last

    def ask(self) -> Question:
        """Ask everybody, unless somebody else has just done so; the question that is open now."""
        mine = Question(self.last.number + 1, self.rank, -1.0)
        self._learn(self._store.compare_set(_KEY, self._raw, mine.encode()))
        return self.last

    def close(self, lasted: float) -> None:
        """Say that this rank goes on, if the last question is its own."""
        if self.last.open and self.last.asker == self.rank:
            over = replace(self.last, lasted=max(0.0, lasted))
            self._learn(self._store.compare_set(_KEY, self._raw, over.encode()))

    def answer(self, answer: Answer) -> None:
        """Answer the question that it has the number of."""
        self._store.set(_of(answer.rank), answer.model_dump_json().encode())
        self.answered = answer.question

    def answer_of(self, rank: int) -> Answer | None:
        """What a rank has answered to the last question; None if it has not yet."""
        raw = self._store.get(_of(rank))
        return None if raw is None else self._current(raw)

    def answers(self) -> dict[int, Answer]:
        """What has been answered to the last question, by rank."""
        keys = [_of(rank) for rank in range(self.size)]
        raws = self._store.get_all(keys) or [self._store.get(key) or b"" for key in keys]
        found = (self._current(raw) for raw in raws)
        return {each.rank: each for each in found if each is not None}

    def tell(self, number: int) -> None:
        """Say that a question has been dealt with."""
        self._store.set(_TOLD, str(number).encode())

    def told(self, number: int) -> bool:
        """Whether somebody has dealt with a question."""
        return self._store.get(_TOLD) == str(number).encode()

    def absent(self, answers: Mapping[int, Answer]) -> dict[int, bool]:
        """Of the ranks that have not answered, whether their run is over."""
        missing = set(range(self.size)) - answers.keys()
        return {rank: self._store.get(f"left-{rank}") is not None for rank in missing}

    def _learn(self, raw: bytes) -> None:
        self._raw, self.last = raw, Question.decode(raw)

    def _current(self, raw: bytes) -> Answer | None:
        with suppress(ValidationError):
            answer = Answer.model_validate_json(raw)
            if answer.question == self.last.number:
                return answer
        return None


def _of(rank: int) -> str:
    return f"watch-answer-{rank}"
