"""What sinks that write lines to one file share: its place, its name, and what is remembered of it.

The state holds the file's name and how far it was acknowledged, so that a batch that comes again
after a crash finds its first traces removed.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from bus import Batch, BlockingSink, SinkContext, SinkSettings, State
from sinks._files import AppendedFile, check_folder, claim, refusals

__all__ = ["FileSettings", "FileSink", "FileState"]

_ACCEPTED: Final = ConfigDict(extra="ignore")


class FileSettings(SinkSettings):
    """Where the file is."""

    path: Path | None = Field(
        default=None,
        description="The file; in the run's folder by default. One that exists is left alone and "
        "a number is added to the name.",
    )


class FileState(BaseModel):
    """What is remembered of a file between batches and processes.

    Attributes:
        wanted: The path that was asked for; another one begins another file.
        file: The path that was free, relative to the run's folder if it lies in there.
        part: How often it was replaced, from 1.
        bytes: Its length when the last batch was acknowledged.
    """

    model_config: ClassVar[ConfigDict] = _ACCEPTED

    wanted: str
    file: str
    part: PositiveInt = 1
    bytes: NonNegativeInt = 0


class FileSink(BlockingSink):
    """A sink that writes lines to one file; a subclass says how they look.

    Attributes:
        default: The file's name in the run's folder.
        keep: How many earlier parts stay; None for all of them.
    """

    default: ClassVar[str]

    Settings: ClassVar[type[SinkSettings]] = FileSettings

    _run_dir: Path
    _wanted: Path

    @property
    def keep(self) -> int | None:
        """How many earlier parts of the file stay for good; None for all of them."""
        return 0

    @abstractmethod
    def kept(self, path: Path, part: int) -> Path:
        """Where an earlier part of the file is."""

    @abstractmethod
    def write_lines(self, file: AppendedFile, batch: Batch) -> None:
        """Append a batch.

        Raises:
            OSError: The disk refused.
            RejectedError: Some records cannot be written; nothing was.
        """

    def bind(self, context: SinkContext) -> None:
        """Take a relative path as the program means it, which may change its folder later."""
        self._run_dir = context.run_dir.absolute()
        settings = self.settings
        assert isinstance(settings, FileSettings)
        if settings.path is not None:
            self._wanted = settings.path.absolute()
        else:
            self._wanted = self._run_dir / self.default

    def check_blocking(self) -> str:
        """Whether a file can be made where it is to be."""
        return check_folder(self._wanted.parent)

    def open_blocking(self, context: SinkContext, state: State) -> State:
        """Find the file again, or take a name that is free."""
        del context  # `bind` has seen it
        wanted = self._relative(self._wanted)
        known = FileState.model_validate(dict(state)) if state else None
        if known is None or known.wanted != wanted:
            with refusals(self._wanted):
                free = claim(self._wanted, alone=self._wanted.parent == self._run_dir)
            known = FileState(wanted=wanted, file=self._relative(free))
        self.url: str | None = (self._run_dir / known.file).as_uri()
        return known.model_dump()

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Cut off what was not acknowledged, then append the batch."""
        with self._settled(state) as (file, known):
            self.write_lines(file, batch)
        return known.model_copy(update={"part": file.part, "bytes": file.size}).model_dump()

    @contextlib.contextmanager
    def _settled(self, state: State) -> Generator[tuple[AppendedFile, FileState]]:
        known = FileState.model_validate(dict(state))
        path = self._run_dir / known.file
        file = AppendedFile(path, lambda part: self.kept(path, part))
        with refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file.settle(known.part, known.bytes)
            if self.keep is not None:
                file.forget(known.part - 1 - self.keep)
            yield file, known

    def _relative(self, path: Path) -> str:
        """Relative to the run's folder if it lies in there, which may be moved."""
        if path.is_relative_to(self._run_dir):
            return str(path.relative_to(self._run_dir))
        return str(path)
