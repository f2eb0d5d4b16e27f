"""Reads what an artifact consists of: its files, their digests, and the parts of large ones."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bus import RejectedError
from sinks._held_files import FoundFile, files_in

_PIECE: Final = 1 << 20
_MOST_PARTS: Final = 10_000

md5: Final = partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class Parting:
    """From which size on files are sent in parts, and how large these are, in bytes.

    W&B's own client does it from 2 GiB on in parts of 100 MiB; storage takes up to 5 GiB at once.
    """

    beyond: int = 2 << 30
    part: int = 100 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """A file of an artifact.

    Attributes:
        path: Where it is here.
        name: What it is called there.
        md5: Its digest, in base64.
        size: In bytes.
        part: Bytes of each of its parts but the last; 0 if it is sent at once.
        parts: Their digests, in hexadecimal digits.
    """

    path: Path
    name: str
    md5: str
    size: int
    part: int = 0
    parts: tuple[str, ...] = ()


def read_contents(source: Path, parting: Parting) -> list[Content]:
    """A file, or the files of a folder, in a fixed order; none if there is nothing.

    Raises:
        RejectedError: One cannot be read.
    """
    try:
        return [_content(file, parting) for file in files_in(source)]
    except OSError as error:
        raise RejectedError(f"{error.filename} cannot be read: {error.strerror}") from error


def digest_of(contents: Sequence[Content]) -> str:
    """The digest of an artifact: that of the sorted list of its files."""
    lines = [f"{each.name}:{each.md5}\n" for each in sorted(contents, key=lambda each: each.name)]
    return md5("".join(["wandb-artifact-manifest-v1\n", *lines]).encode()).hexdigest()


def in_base64(digest: bytes) -> str:
    """A digest as the service writes it."""
    return base64.b64encode(digest).decode()


def _content(file: FoundFile, parting: Parting) -> Content:
    path, name = file.path, file.inner or file.path.name
    size = path.stat().st_size
    part = max(parting.part, -(-size // _MOST_PARTS)) if size >= parting.beyond else 0
    whole, parts, read = md5(), [md5()], 0
    with path.open("rb") as opened:
        while piece := opened.read(min(_PIECE, part - read % part) if part else _PIECE):
            if part and read and read % part == 0:
                parts.append(md5())
            whole.update(piece)
            parts[-1].update(piece)
            read += len(piece)
    digests = tuple(each.hexdigest() for each in parts) if part else ()
    return Content(path, name, in_base64(whole.digest()), read, part, digests)
