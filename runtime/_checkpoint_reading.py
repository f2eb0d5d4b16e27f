"""Reads the files of a checkpoint and executes nothing: safetensors, restricted pickles, JSON.

What cannot be read is told with its name, and whether it is damaged or asks for code.
"""

import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path, PurePath
from typing import Any, Final, Protocol, TypeAlias, cast

import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open

from runtime._checkpoint_errors import (
    CheckpointNotFoundError,
    DamagedCheckpointError,
    UnsafeCheckpointError,
)
from runtime._checkpoint_files import MODEL, MODEL_INDEX, OLD_MODEL, OLD_MODEL_INDEX, rank_files

_FORMATS: Final = (MODEL, MODEL_INDEX, OLD_MODEL, OLD_MODEL_INDEX)

_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    OSError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
"""What the standard library raises at a damaged archive."""

Harmless: TypeAlias = Callable[..., Any] | tuple[Callable[..., Any], str]
"""A class or function that a file may name, with the name it goes by if that is another."""

_GLOBAL: Final = re.compile(r"GLOBAL ([\w.]+)")
"""How torch's restricted unpickler names what it refuses."""


def read_weights(path: Path, *, device: torch.device) -> dict[str, torch.Tensor]:
    """Read a checkpoint's weights: safetensors, in shards too, or Transformers' older `.bin`.

    Args:
        path: The checkpoint.
        device: Where the weights are wanted.

    Returns:
        The weights by name. Tied ones that this package saved stand under each of their names.

    Raises:
        CheckpointNotFoundError: There are none.
        DamagedCheckpointError: A file of theirs cannot be read.
        UnsafeCheckpointError: A file of theirs would run code, or the index leaves the checkpoint.
    """
    weights: dict[str, torch.Tensor] = {}
    for name in weight_files(path):
        weights |= _read_tensors(path, name, device)
    return weights


def weight_files(path: Path) -> list[str]:
    """The files that hold a checkpoint's weights.

    Raises:
        CheckpointNotFoundError: There are none.
        DamagedCheckpointError: The index of shards cannot be read.
        UnsafeCheckpointError: The index names a file outside the checkpoint.
    """
    sharded = rank_files(path, "model")
    if sharded:
        return sharded
    found = next((name for name in _FORMATS if (path / name).is_file()), None)
    if found is None:
        raise CheckpointNotFoundError(
            path, f"it has none of {', '.join(_FORMATS)}; name the folder that has"
        )
    return _shards(path, found) if found in {MODEL_INDEX, OLD_MODEL_INDEX} else [found]


def read_tree(path: Path, name: str, *, also: Sequence[Harmless] = ()) -> dict[str, object] | None:
    """Read nested tensors and plain values that `torch.save` wrote, to the host.

    Args:
        path: The checkpoint.
        name: The file.
        also: Further harmless classes and functions that the file may name.

    Returns:
        What was saved; None if there is no such file.

    Raises:
        DamagedCheckpointError: It cannot be read.
        UnsafeCheckpointError: It names anything else.
    """
    if not (path / name).exists():
        return None
    tree = _unpickle(path, name, torch.device("cpu"), also)
    if not isinstance(tree, dict):
        raise DamagedCheckpointError(path, name, f"holds a {type(tree).__name__}, not a dictionary")
    return cast("dict[str, object]", tree)


def read_json(path: Path, name: str) -> dict[str, JsonValue] | None:
    """Read a JSON object, bare NaN and infinities too; None if there is no such file.

    Raises:
        DamagedCheckpointError: It cannot be read.
    """
    try:
        value: object = json.loads((path / name).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(path, name, f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DamagedCheckpointError(path, name, f"holds a {type(value).__name__}, not an object")
    return cast("dict[str, JsonValue]", value)


def _shards(path: Path, index: str) -> list[str]:
    files = (read_json(path, index) or {}).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise DamagedCheckpointError(path, index, "has no weight_map")
    shards = sorted({str(file) for file in files.values()})
    for shard in shards:
        if shard != PurePath(shard).name or shard in {"", ".", ".."}:
            raise UnsafeCheckpointError(path, index, f"names {shard!r}, outside the checkpoint")
        if not (path / shard).is_file():
            raise DamagedCheckpointError(path, shard, f"is missing, though {index} names it")
    return shards


def check_safetensors(path: Path, name: str) -> None:
    """Compare a file's size with what its header says.

    Raises:
        DamagedCheckpointError: They differ, or there is no header.
    """
    with opened_safetensors(path, name, torch.device("cpu")):
        pass


def check_archive(path: Path, name: str) -> None:
    """Compare the checksums that torch keeps in its archives; a bare pickle has none.

    Raises:
        DamagedCheckpointError: They differ, or it is neither.
        UnsafeCheckpointError: It is compressed.
    """
    file = path / name
    if not zipfile.is_zipfile(file):
        if not _is_pickle(file):
            raise DamagedCheckpointError(path, name, "is neither an archive of torch nor a pickle")
        return
    _refuse_compressed(path, name)
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except _ZIP_ERRORS as error:
        raise DamagedCheckpointError(path, name, f"cannot be read ({error})") from error
    if broken is not None:
        raise DamagedCheckpointError(path, name, f"differs from what was written, in {broken}")


def _is_pickle(file: Path) -> bool:
    """Whether a file can be read and begins as every pickle does."""
    try:
        with file.open("rb") as stream:
            return stream.read(1) == b"\x80"
    except OSError:
        return False


def _refuse_compressed(path: Path, name: str) -> None:
    """Keep a small file from taking a large memory."""
    try:
        with zipfile.ZipFile(path / name) as archive:
            kinds = {entry.compress_type for entry in archive.infolist()}
    except _ZIP_ERRORS:
        return  # what is wrong with it, its reader will say
    if kinds - {zipfile.ZIP_STORED}:
        raise UnsafeCheckpointError(path, name, "is compressed, which torch never does")


def _read_tensors(path: Path, name: str, device: torch.device) -> dict[str, torch.Tensor]:
    if not name.endswith(".safetensors"):
        return _checked_tensors(path, name, _unpickle(path, name, device, ()))
    with opened_safetensors(path, name, device) as file:
        weights = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 - no mapping
        tied = file.metadata() or {}
    aliases = {alias: weights[kept] for alias, kept in tied.items() if kept in weights}
    return aliases | weights


class SafeSlice(Protocol):
    """A tensor in a file, of which a part can be read."""

    def get_shape(self) -> list[int]: ...

    def __getitem__(self, part: tuple[slice, ...], /) -> torch.Tensor: ...


class SafeFile(Protocol):
    """What `safetensors.safe_open` gives, which has no types of its own."""

    def keys(self) -> list[str]: ...

    def get_tensor(self, name: str) -> torch.Tensor: ...

    def get_slice(self, name: str) -> "SafeSlice": ...

    def metadata(self) -> dict[str, str] | None: ...


class _SafeOpen(Protocol):
    def __call__(
        self, filename: Path, framework: str, device: str
    ) -> contextlib.AbstractContextManager[SafeFile]: ...


@contextlib.contextmanager
def opened_safetensors(path: Path, name: str, device: torch.device) -> Generator[SafeFile]:
    """Open a file of a checkpoint; tensors are read to a device when asked for.

    Raises:
        DamagedCheckpointError: It cannot be read.
    """
    try:
        with cast("_SafeOpen", safe_open)(path / name, "pt", str(device)) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpointError(path, name, f"cannot be read ({error})") from error


def _checked_tensors(path: Path, name: str, tree: object) -> dict[str, torch.Tensor]:
    weights = cast("dict[object, object]", tree) if isinstance(tree, dict) else None
    if weights is None or not all(
        isinstance(key, str) and isinstance(each, torch.Tensor) for key, each in weights.items()
    ):
        raise DamagedCheckpointError(path, name, "does not hold tensors by name")
    return cast("dict[str, torch.Tensor]", weights)


def _unpickle(path: Path, name: str, device: torch.device, also: Sequence[Harmless]) -> object:
    _refuse_compressed(path, name)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(also)):
            warnings.simplefilter("ignore")  # torch talks of protocols; ours is the last word
            return torch.load(path / name, map_location=device, weights_only=True)
    # A damaged file makes torch's reader fail in whatever way the bytes lead to.
    except Exception as error:
        text = str(error)
        wanted = _GLOBAL.search(text)
        if wanted is not None or "TorchScript" in text:
            what = f"it names {wanted[1]}" if wanted is not None else "it is a TorchScript archive"
            raise UnsafeCheckpointError(
                path, name, f"would run code when loaded: {what}"
            ) from error
        first = (text.splitlines() or [""])[0][:200]
        why = f"cannot be read ({type(error).__name__}: {first})"
        raise DamagedCheckpointError(path, name, why) from error
