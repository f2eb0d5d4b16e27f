"""Reads where the threads of this process are, and tells from it what the training thread is at.

Reading is a walk along frames that exist already, some microseconds; it stops nobody. What a thread
is at is told by the files its frames are of:

- compiling: Dynamo's and Inductor's compilers. At run time, compiled code has other files of theirs
  on the stack, never these.
- storage: torch's and safetensors' reading and writing of files.
- exchange: the innermost frame is one of `torch.distributed`, or of ours that wait for other ranks.
- backward: inside the autograd engine, where DDP waits for other ranks, too.
- device: the innermost line waits for a device, or for work that was begun before.
- data: anywhere inside a `torch.utils.data.DataLoader`.
"""

import linecache
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Final, Literal, TypeAlias

Activity: TypeAlias = Literal[
    "compiling", "storage", "debugging", "exchange", "backward", "device", "data", "code"
]

WAITING: Final[frozenset[Activity]] = frozenset({"exchange", "backward", "device"})
"""Where a thread may be waiting for other ranks."""

LENIENT: Final[frozenset[Activity]] = frozenset({"compiling", "storage", "debugging"})
"""What may take any time."""

_INSIDE: Final[tuple[tuple[str, Activity], ...]] = (
    ("/torch/_dynamo/convert_frame.py", "compiling"),
    ("/torch/_inductor/compile_fx.py", "compiling"),
    ("/torch/_inductor/codecache.py", "compiling"),
    ("/torch/_inductor/async_compile.py", "compiling"),
    ("/triton/compiler/", "compiling"),
    ("/triton/runtime/autotuner.py", "compiling"),
    ("/torch/serialization.py", "storage"),
    ("/torch/distributed/checkpoint/", "storage"),
    ("/safetensors/", "storage"),
    ("/bdb.py", "debugging"),
    ("/torch/utils/data/dataloader.py", "data"),
)
_INNERMOST: Final[tuple[tuple[str, Activity], ...]] = (
    ("/torch/distributed/", "exchange"),
    ("/bus/_leases.py", "exchange"),
    ("/runtime/_ranks.py", "exchange"),
    ("/torch/autograd/graph.py", "backward"),
)
_WAITS: Final = re.compile(r"\.(wait|item|cpu|tolist|numpy)\(|synchronize\(")

_FRAMES: Final = 60
"""Innermost frames of a thread that are written down."""

STACKS_OF_RANK: Final = 16_000
"""Characters of all stacks of a process that are written down."""


@dataclass(frozen=True, slots=True)
class Look:
    """Where a thread is.

    Attributes:
        activity: What it is at.
        place: Its innermost frame outside of torch and Python's library, if there is one: file,
            line and function.
        codes: The code of the functions it is in, outermost first.
    """

    activity: Activity
    place: str
    codes: tuple[CodeType, ...]


NOWHERE: Final = Look("code", "", ())


def look(thread: int) -> Look:
    """Where a thread is, by its identifier; `NOWHERE` if it runs no Python code."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its documented name
    if frame is None:
        return NOWHERE
    frames = list(_outwards(frame))
    return Look(_activity(frames), _place(frames), tuple(each.f_code for each in frames[::-1]))


def stacks(first: int) -> str:
    """Python's stacks of all threads as text, innermost frames last, as in a traceback.

    Args:
        first: The thread to begin with, by its identifier. It gets half of the room at least.
    """
    names = {each.ident: each.name for each in threading.enumerate()}
    found = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its documented name
    own = threading.get_ident()
    order = sorted(found, key=lambda ident: (ident != first, ident))
    parts: list[str] = []
    room = STACKS_OF_RANK
    for ident in order:
        if ident == own:
            continue
        text = f"thread {names.get(ident, ident)}:\n" + _written(found[ident])
        share = room if ident != first else max(room // 2, room - 4_000)
        if len(text) > share:
            text = "...\n" + text[-max(share - 4, 0) :]
        room -= len(text)
        parts.append(text)
        if room < 200:
            parts.append("... (more threads are left out)\n")
            break
    return "".join(parts)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _activity(frames: list[FrameType]) -> Activity:
    files = [frame.f_code.co_filename for frame in frames]
    for file in files:
        for part, activity in _INSIDE:
            if part in file:
                return activity
    # Operators called through torch.ops have a frame of torch's own below the caller's.
    inner = next((file for file in files if not file.endswith("/torch/_ops.py")), "")
    for part, activity in _INNERMOST:
        if part in inner:
            return activity
    line = linecache.getline(files[0], _line(frames[0]))
    return "device" if _WAITS.search(line) else "code"


def _place(frames: list[FrameType]) -> str:
    """The innermost frame of the user's own code, or else the innermost of all."""
    own = (frame for frame in frames if not _is_library(frame.f_code.co_filename))
    frame = next(own, frames[0])
    code = frame.f_code
    return f"{code.co_filename}:{_line(frame)} in {code.co_qualname}"


def _line(frame: FrameType) -> int:
    """The line a frame is at; its function's first where an instruction belongs to none."""
    line: int | None = frame.f_lineno
    return frame.f_code.co_firstlineno if line is None else line


def _is_library(file: str) -> bool:
    return file.startswith((_STANDARD, "<frozen")) or "/site-packages/" in file


def _written(frame: FrameType) -> str:
    lines: list[str] = []
    for each in _outwards(frame):
        if len(lines) == _FRAMES:
            lines.append("  ...\n")
            break
        file, line = each.f_code.co_filename, _line(each)
        source = linecache.getline(file, line).strip()
        shown = f"    {source}\n" if source else ""
        lines.append(f'  File "{file}", line {line}, in {each.f_code.co_qualname}\n{shown}')
    return "".join(reversed(lines))


_STANDARD: Final = threading.__file__.rpartition("/")[0] + "/"
