"""Reads any part of a checkpoint's tensors, whatever parts its files hold; nothing is executed.

A checkpoint of sharded training has a file of each process, `model_rank0-of-4.safetensors`. Its
header says in JSON, under "shard", where each tensor in it begins and how large the whole is.
Files without that entry hold whole tensors. Only the bytes that are asked for are read.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from runtime._boxes import Box
from runtime._checkpoint_errors import DamagedCheckpointError
from runtime._checkpoint_files import rank_files
from runtime._checkpoint_reading import SafeFile, opened_safetensors, read_weights

SHARD: Final = "shard"
"""The entry of a file's header that tells of its parts."""


class ShardHeader(BaseModel):
    """What a file holds.

    Attributes:
        pieces: Where each tensor begins, by dimension, and the size of the whole.
        tied: Further names of tensors, with the name that each is kept under.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    v: Literal[1] = 1
    pieces: dict[str, tuple[list[NonNegativeInt], list[NonNegativeInt]]]
    tied: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Piece:
    file: str
    key: str
    box: Box


class Pieces:
    """The tensors of several safetensors files, to be used as a context manager.

    Args:
        path: The checkpoint.
        files: Their names.

    Attributes:
        shapes: The size of each whole tensor, by name; tied ones stand under each of their names.
        tied: Further names of tensors, with the name that each is kept under.

    Raises:
        DamagedCheckpointError: A file is none, or its header contradicts itself.
    """

    def __init__(self, path: Path, files: list[str]) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()
        self._files: dict[str, SafeFile] = {}
        self._pieces: dict[str, list[_Piece]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tied: dict[str, str] = {}
        try:
            for file in files:
                self._open(file)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def read(self, name: str, box: Box | None = None) -> torch.Tensor:
        """Read a part of a tensor to the host, or all of it.

        Raises:
            KeyError: There is no such tensor.
            DamagedCheckpointError: The files do not hold all of the part.
        """
        pieces = self._pieces[name]
        box = Box.all_of(self.shapes[name]) if box is None else box
        if len(pieces) == 1 and pieces[0].box == box:
            return self._files[pieces[0].file].get_tensor(pieces[0].key)
        common = [(piece, piece.box.overlap(box)) for piece in pieces]
        parts = [(piece, part) for piece, part in common if part is not None]
        if sum(part.size for _, part in parts) != box.size:
            why = f"holds a part of {name}, and no other file all of the rest"
            raise DamagedCheckpointError(self._path, pieces[0].file, why)
        target = torch.empty(box.shape, dtype=self._dtype(pieces[0]))
        for piece, part in parts:
            values = self._files[piece.file].get_slice(piece.key)[part.slices(piece.box)]
            target[part.slices(box)] = values
        return target

    def size(self, name: str) -> int:
        """Bytes of a whole tensor."""
        return Box.all_of(self.shapes[name]).size * self._dtype(self._pieces[name][0]).itemsize

    def _dtype(self, piece: _Piece) -> torch.dtype:
        nothing = tuple(slice(0, 0) for _ in piece.box.shape)
        return self._files[piece.file].get_slice(piece.key)[nothing].dtype

    def _open(self, name: str) -> None:
        file = self._stack.enter_context(opened_safetensors(self._path, name, torch.device("cpu")))
        self._files[name] = file
        header = self._header(name, file.metadata() or {})
        for key in file.keys():  # noqa: SIM118 - no mapping
            shape = tuple(file.get_slice(key).get_shape())
            offset, whole = header.pieces.get(key, ([0] * len(shape), list(shape)))
            self._add(_Piece(name, key, Box(tuple(offset), shape, tuple(whole))))
        for alias, kept in header.tied.items():
            if kept in self._pieces and alias not in self._pieces:
                self.tied[alias] = kept
                self._pieces[alias], self.shapes[alias] = self._pieces[kept], self.shapes[kept]

    def _header(self, name: str, metadata: Mapping[str, str]) -> ShardHeader:
        text = metadata.get(SHARD)
        if text is None:
            return ShardHeader(pieces={}, tied=dict(metadata))
        try:
            return ShardHeader.model_validate_json(text)
        except ValidationError as error:
            why = "does not tell its parts: " + error.errors()[0]["msg"]
            raise DamagedCheckpointError(self._path, name, why) from error

    def _add(self, piece: _Piece) -> None:
        box, known = piece.box, self._pieces.setdefault(piece.key, [])
        sizes = zip(box.offset, box.shape, box.whole, strict=False)
        fits = len(box.offset) == len(box.shape) == len(box.whole)
        whole = self.shapes.setdefault(piece.key, box.whole)
        if not fits or whole != box.whole or any(at + own > all_ for at, own, all_ in sizes):
            why = f"has a part of {piece.key} that is none of a tensor of size {list(whole)}"
            raise DamagedCheckpointError(self._path, piece.file, why)
        # Where the model is replicated too, several processes hold the same part.
        if (box.size or not known) and all(each.box != box for each in known):
            known.append(piece)


def read_model(path: Path, *, device: torch.device) -> dict[str, torch.Tensor]:
    """Read a checkpoint's weights, those of sharded training put together.

    Raises:
        CheckpointError: As `read_weights`.
    """
    files = rank_files(path, "model")
    if not files:
        return read_weights(path, device=device)
    with Pieces(path, files) as pieces:
        return {name: pieces.read(name).to(device) for name in pieces.shapes}
