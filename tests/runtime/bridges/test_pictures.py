"""Images as PNG files."""

import struct
import zlib

import numpy as np
import pytest

from runtime.bridges._pictures import write_picture


def read(path):
    """Width, height, colour type and the rows, each behind the number of its filter."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + size
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return width, height, colour, rows[:, 1:]


@pytest.mark.parametrize(("channels", "colour"), [(None, 0), (1, 0), (3, 2), (4, 6)])
def test_every_pixel_is_there(tmp_path, channels, colour):
    """Grey, colours, colours with opacity: as they were."""
    shape = (3, 5) if channels is None else (3, 5, channels)
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)

    found = read(write_picture(tmp_path / "new", "one", image))

    assert found[:3] == (5, 3, colour)
    assert np.array_equal(found[3], image.reshape(3, -1))


def test_numbers_from_0_to_1(tmp_path):
    """They become bytes; what lies outside, or is no number, is brought inside."""
    image = np.array([[0.0, 0.5, 1.0, 7.0, -1.0, np.nan]])
    assert read(write_picture(tmp_path, "one", image))[3].tolist() == [[0, 128, 255, 255, 0, 0]]


def test_no_file_is_replaced(tmp_path):
    """A second one of a name gets another."""
    image = np.zeros((2, 2), np.uint8)
    paths = [write_picture(tmp_path, "one", image) for _ in range(2)]
    assert [path.name for path in paths] == ["one.png", "one-2.png"]


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (1, 2, 2, 3), (0, 4)])
def test_what_is_no_image_is_refused(tmp_path, shape):
    """The message names the shape."""
    with pytest.raises(ValueError, match="is no image"):
        write_picture(tmp_path, "one", np.zeros(shape))
