"""`manifest.json`: the size and SHA-256 of each file of a checkpoint, written last, checked first.

Hashing costs 0.7 s of one core for each GB where the processor has instructions for it; that is
less than most disks take, and registries of models name their files by the same digest.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from runtime._checkpoint_errors import DamagedCheckpointError, UnsafeCheckpointError
from runtime._checkpoint_files import MANIFEST, sync_folder


class FileRecord(BaseModel):
    """What a file must be.

    Attributes:
        size: Its bytes.
        sha256: Its digest in hexadecimal.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    size: NonNegativeInt
    sha256: str


class Manifest(BaseModel):
    """Everything that belongs to a checkpoint.

    Attributes:
        step: Optimizer steps taken.
        files: What each file must be, by its path in the checkpoint.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    v: Literal[1] = 1
    step: NonNegativeInt
    files: dict[str, FileRecord]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(record.size for record in self.files.values())


def seal(folder: Path, step: int, known: Mapping[str, FileRecord] | None = None) -> Manifest:
    """Write the manifest of a folder and make all of it survive a loss of power.

    Args:
        folder: The checkpoint, still under its hidden name.
        step: Optimizer steps taken.
        known: Files that other processes have written and looked at; they are not read again.

    Raises:
        OSError: The disk refused, or one of the known files is not there.
    """
    files = {
        name: file_record(folder / name, sync=True)
        for name in _names(folder)
        if known is None or name not in known
    }
    for name, each in (known or {}).items():
        if file_size(folder, name) != each.size:
            raise OSError(f"{name} is not what its writer has written; is the disk shared?")
        files[name] = each
    files = dict(sorted(files.items()))
    manifest = Manifest(step=step, files=files)
    text = json.dumps(manifest.model_dump(), indent=2) + "\n"
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    for path, _, _ in os.walk(folder):
        sync_folder(Path(path))
    return manifest


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of a checkpoint; None if it has none, as those of Transformers.

    Raises:
        DamagedCheckpointError: It cannot be read.
        UnsafeCheckpointError: It names a file outside the checkpoint.
    """
    try:
        text = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedCheckpointError(path, MANIFEST, f"cannot be read ({error})") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        why = "is no manifest: " + error.errors()[0]["msg"]
        raise DamagedCheckpointError(path, MANIFEST, why) from error
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnsafeCheckpointError(path, MANIFEST, f"names {name!r}, outside the checkpoint")
    return manifest


def check_files(path: Path, files: Mapping[str, FileRecord]) -> None:
    """Compare files with what they must be: all sizes first, which costs nothing, then contents.

    Raises:
        DamagedCheckpointError: Naming the first file that differs, and how.
    """
    for name, record in files.items():
        size = file_size(path, name)
        if size != record.size:
            how = "is cut off" if size < record.size else "is too long"
            why = f"{how}: it has {size:,} bytes instead of {record.size:,}"
            raise DamagedCheckpointError(path, name, why)
    for name, record in files.items():
        try:
            found = file_record(path / name, sync=False)
        except OSError as error:
            raise DamagedCheckpointError(path, name, f"cannot be read ({error})") from error
        if found.sha256 != record.sha256:
            raise DamagedCheckpointError(
                path, name, f"differs from what was written: its SHA-256 is {found.sha256}"
            )


def file_size(path: Path, name: str) -> int:
    """The size of a file that must be there.

    Raises:
        DamagedCheckpointError: It is missing, or no file.
    """
    try:
        found = (path / name).stat()
    except FileNotFoundError:
        raise DamagedCheckpointError(path, name, "is missing") from None
    except OSError as error:
        raise DamagedCheckpointError(path, name, f"cannot be read ({error})") from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedCheckpointError(path, name, "is not a file")
    return found.st_size


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def file_record(path: Path, *, sync: bool) -> FileRecord:
    """What a file is now; with `sync` it survives a loss of power first."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256")
        return FileRecord(size=os.fstat(file.fileno()).st_size, sha256=digest.hexdigest())
