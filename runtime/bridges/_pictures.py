"""Writes images as PNG files, with nothing but numpy (www.w3.org/TR/png-3)."""

import itertools
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

_COLOUR_TYPES: Final = {1: 0, 3: 2, 4: 6}
"""By channels: grey, colours, colours with their opacity."""


def write_picture(folder: Path, name: str, image: ArrayLike) -> Path:
    """Write one image under the first free name.

    Args:
        folder: Made if it is not there.
        name: The file's, without its ending.
        image: Height x width, with 1, 3 or 4 channels behind if there are several; bytes, or
            numbers from 0 to 1.

    Raises:
        ValueError: It is no image.
        OSError: The disk refused.
    """
    data = _encoded(np.asarray(image))
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png")
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        return path
    raise AssertionError("numbers have no end")


def _encoded(image: "np.ndarray") -> bytes:
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in _COLOUR_TYPES or not image.size:
        raise ValueError(
            f"an array of shape {image.shape} is no image; pass height x width, or height x width "
            "x channels with 1, 3 or 4 of them"
        )
    if image.dtype != np.uint8:
        image = np.round(np.clip(np.nan_to_num(image.astype(np.float64)), 0, 1) * 255)
    pixels = image.astype(np.uint8)
    height, width, channels = pixels.shape
    unfiltered = np.zeros((height, 1), np.uint8)
    rows = np.hstack([unfiltered, pixels.reshape(height, -1)]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
