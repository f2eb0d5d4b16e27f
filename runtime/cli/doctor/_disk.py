"""Whether runs can be written where they are to go, and what kind of place that is."""

import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.cli.doctor._finding import Finding

MOUNTS: Final = Path("/proc/self/mountinfo")
NETWORK: Final = re.compile(
    r"nfs4?|cifs|smb\w*|lustre|gpfs|beegfs|ceph|glusterfs|afs|9p|wekafs|panfs|orangefs|pvfs2"
    r"|fuse\.(sshfs|glusterfs|ceph-fuse|juicefs|beegfs\w*)"
)
OBJECT_STORE: Final = re.compile(r"davfs|fuse\.(s3fs|gcsfuse|rclone|goofys|mount-s3)")
VOLATILE: Final = frozenset(("tmpfs", "ramfs"))
_GIB: Final = 2**30
_SCARCE: Final = 1.0
_TOO_LITTLE: Final = 0.1
_SLOW_FSYNC: Final = 0.1


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    point: Path
    kind: str


def check_disk(runs: Path) -> list[Finding]:
    """The folder for runs: writable, with space, on a file system that keeps what is written.

    Args:
        runs: It need not exist yet; then the folder it would be made in is looked at.
    """
    folder = nearest_folder(runs)
    return [
        check_writable(folder),
        check_space(folder, shutil.disk_usage(folder).free / _GIB),
        check_file_system(folder, mount_of(folder, _mounts())),
    ]


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the closest one above it that exists."""
    return next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())


def check_writable(folder: Path) -> Finding:
    """Appends to a file there, syncs it, and says how long that took."""
    check = "run directory"
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".hotloop-doctor-") as file:
            file.write(b"hotloop\n")
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds = time.perf_counter() - began
    except OSError as error:
        return Finding(
            check=check,
            level="problem",
            found=f"cannot write in {folder.absolute()}: {error.strerror}",
            advice="choose another folder with Run(dir=...), or change its permissions",
        )
    found = f"{folder.absolute()} is writable, fsync takes {seconds * 1e3:.1f} ms"
    if seconds < _SLOW_FSYNC:
        return Finding(check=check, level="ok", found=found)
    advice = "Run(fsync=...) runs off the training thread, but give it several seconds here"
    return Finding(check=check, level="warn", found=found, advice=advice)


def check_space(folder: Path, free_gib: float) -> Finding:
    """Whether journals and checkpoints have room."""
    found = f"{free_gib:.1f} GiB free at {folder.absolute()}"
    if free_gib >= _SCARCE:
        return Finding(check="free space", level="ok", found=found)
    return Finding(
        check="free space",
        level="problem" if free_gib < _TOO_LITTLE else "warn",
        found=found,
        advice="make room or choose another disk: on a full one training goes on, "
        "but events become gaps in the journal and checkpoints fail",
    )


def check_file_system(folder: Path, mount: Mount | None) -> Finding:
    """What the kind of file system means for journals."""
    check = "file system"
    if mount is None:
        return Finding(check=check, level="ok", found="kind unknown (no mount table here)")
    found = f"{folder.absolute()} is on {mount.kind} (mounted at {mount.point})"
    advice = _advice_on(mount.kind)
    return Finding(check=check, level="warn" if advice else "ok", found=found, advice=advice)


def _advice_on(kind: str) -> str:
    if OBJECT_STORE.fullmatch(kind):
        return (
            "an object store rewrites a file at each append: keep runs on a disk, copy them later"
        )
    if NETWORK.fullmatch(kind):
        return (
            "works: each journal file has one writer and needs no lock. O_APPEND is not atomic "
            "between hosts, so never point two runs at one folder by hand; fsync waits for the "
            "server; other hosts see new lines some seconds late"
        )
    if kind in VOLATILE:
        return "this file system lives in memory: runs are gone after a reboot"
    return ""


def mount_of(folder: Path, mounts: list[Mount]) -> Mount | None:
    """The mount a folder is on: the one with the longest path above it, the latest if equal."""
    resolved = folder.resolve()
    above = [mount for mount in mounts if resolved.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point.parts), default=None)


def parse_mounts(text: str) -> list[Mount]:
    """Reads `/proc/self/mountinfo` (format: proc_pid_mountinfo(5))."""
    mounts: list[Mount] = []
    for line in text.splitlines():
        head, separator, tail = line.partition(" - ")
        fields = head.split()
        if separator and len(fields) > 4 and tail:
            mounts.append(Mount(Path(_unescaped(fields[4])), tail.split()[0]))
    return mounts


def _mounts() -> list[Mount]:
    try:
        return parse_mounts(MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return []


def _unescaped(field: str) -> str:
    for octal, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        field = field.replace(f"\\{octal}", character)
    return field
