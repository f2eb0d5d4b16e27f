"""What W&B has to know of an image, a sound or a video before a row can refer to it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from sinks._tensorboard_images import read_picture

_KINDS: Final = {"image": "images", "audio": "audio", "video": "videos"}
_ILLEGAL: Final = re.compile(r"[^\w.\-]")
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Media:
    """A file that a row shows.

    Attributes:
        path: Where it is here.
        kind: "image", "audio" or "video".
        sha256: Of its content, as hex.
        size: In bytes.
        extension: Its format.
        width: Of an image; 0 if it is none.
        height: Of an image; 0 if it is none.
    """

    path: str
    kind: str
    sha256: str
    size: int
    extension: str
    width: int = 0
    height: int = 0

    def place(self, key: str, step: int) -> str:
        """Its name among the run's files, the same at each try and of no other row."""
        name = f"{_ILLEGAL.sub('_', key)}_{step}_{self.sha256[:20]}.{self.extension}"
        return f"media/{_KINDS[self.kind]}/{name}"

    def value(self, name: str, caption: str | None) -> dict[str, JsonValue]:
        """What stands in the row."""
        value: dict[str, JsonValue] = {
            "_type": f"{self.kind}-file",
            "path": name,
            "sha256": self.sha256,
            "size": self.size,
        }
        if self.kind == "image":
            value |= {"format": self.extension, "width": self.width, "height": self.height}
        return value if caption is None else {**value, "caption": caption}


def look(path: Path, media_type: str) -> Media | None:
    """What there is to know of a file; None if it is gone or of another kind. Reads all of it."""
    kind, _, subtype = media_type.partition("/")
    if kind not in _KINDS:
        return None
    extension = path.suffix.lstrip(".").lower() or _ILLEGAL.sub("", subtype)
    try:
        size = read_picture(path) if kind == "image" else None
        digest, length = _digest(path)
    except (OSError, ValueError):
        return None
    width, height = (size.width, size.height) if size is not None else (0, 0)
    return Media(str(path), kind, digest, length, extension, width, height)


def _digest(path: Path) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            length += len(piece)
    return digest.hexdigest(), length
