"""What tests of W&B share: what is compared of two runs, an environment, a picture to log."""

import json
import re
import struct
import zlib

AXIS = "train/global_step"
OWN = ("_step", "_runtime", "_timestamp", "_wandb", AXIS)
"""What a client writes into each row or summary by itself."""


def is_number(value):
    """Whether a row's value is one."""
    return isinstance(value, (int, float))


def columns(run):
    """Each key's values with their times, in the order of the rows; NaN as text, to compare."""
    found = {}
    for row in run.history:
        for key, value in row.items():
            if key not in OWN and is_number(value):
                found.setdefault(key, []).append((row["_timestamp"], str(float(value))))
            elif key not in OWN and isinstance(value, str):
                found.setdefault(key, []).append((row["_timestamp"], value))
    return found


def summary(run):
    """The values that stand for the run; NaN as text, to compare."""
    return {
        key: str(float(value)) if is_number(value) else value
        for key, value in run.summary.items()
        if key not in OWN and not isinstance(value, (list, type(None)))
    }


def ending(run):
    """What the server was told of its end."""
    return run.complete, run.exitcode, run.preempting


def config(run):
    """Its configuration, with infinities as texts."""
    values = {key: value for key, value in run.values().items() if key != "hotloop"}
    text = re.sub(r"-?\bInfinity\b(?!\")|\bNaN\b(?!\")", r'"\g<0>"', json.dumps(values))
    return json.loads(text)


def shown(run):
    """How it is described, but for where it comes from."""
    return {k: v for k, v in run.shown.items() if k not in ("host", "program", "commit") and v}


def png(width, height):
    """A small picture."""
    rows = b"".join(b"\0" + b"\1\2\3" * width for _ in range(height))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
