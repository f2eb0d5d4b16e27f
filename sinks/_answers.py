"""What a server answered, read within bounds."""

import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import orjson
from pydantic import JsonValue

from bus import UnavailableError

_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer.

    Attributes:
        status: The HTTP status code.
        headers: Names in lower case; values of a name that came twice are joined by commas.
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> JsonValue:
        """The body as data.

        Raises:
            UnavailableError: It is no JSON: a proxy's page, or an answer that was cut off.
        """
        try:
            return cast("JsonValue", orjson.loads(self.body))
        except orjson.JSONDecodeError:
            kind = self.headers.get("content-type", "no type")
            raise UnavailableError(
                f"HTTP {self.status} with {len(self.body)} bytes that are no JSON ({kind[:100]})"
            ) from None


class BodyReader:
    """Puts a body together, decompressing gzip, and never holds more than it may.

    Args:
        encoding: The answer's `Content-Encoding`, "" if it has none.
        limit: Bytes that the body may have once decompressed.

    Raises:
        UnavailableError: The encoding is none that was asked for.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise UnavailableError(f"the answer is encoded as {encoding[:50]!r}, unasked")
        self._zipped = zlib.decompressobj(_GZIP) if encoding.endswith("gzip") else None
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._came = False

    @property
    def full(self) -> bool:
        """Whether there was more than the limit allows."""
        return self._size > self._limit

    def feed(self, piece: bytes) -> None:
        """Take the next bytes as they came from the server; beyond the limit they are dropped.

        Raises:
            UnavailableError: They cannot be decompressed.
        """
        self._came = self._came or bool(piece)
        if self._zipped is not None:
            if self._zipped.eof and piece:
                raise UnavailableError("the answer goes on behind its gzip data")
            try:
                # One byte more than allowed tells a body that is too long from one that just fits.
                piece = self._zipped.decompress(piece, self._limit - self._size + 1)
            except zlib.error as error:
                raise UnavailableError(f"the answer is no valid gzip: {error}") from error
        self._size += len(piece)
        self._pieces.append(piece)

    def body(self) -> bytes:
        """What came, cut at the limit.

        Raises:
            UnavailableError: Compressed data broke off.
        """
        if self._zipped is not None and self._came and not self._zipped.eof and not self.full:
            raise UnavailableError("the answer's gzip data broke off")
        return b"".join(self._pieces)[: self._limit]


async def read_body(
    pieces: AsyncIterator[bytes], headers: Mapping[str, str], limit: int, *, whole: bool
) -> bytes:
    """Read a body up to a limit.

    Args:
        pieces: What comes from the server.
        headers: The answer's, names in lower case.
        limit: Bytes that the body may have once decompressed.
        whole: Whether a body that is longer is an error, or cut.

    Raises:
        UnavailableError: It cannot be decompressed, or is too long.
    """
    reader = BodyReader(headers.get("content-encoding", ""), limit)
    async for piece in pieces:
        reader.feed(piece)
        if reader.full:
            break
    body = reader.body()
    if whole and reader.full:
        raise UnavailableError(f"the answer has more than {limit} bytes")
    return body
