"""Turns names of any kind into names that every MLflow server takes, each its own.

Servers allow word characters and `_-./ `, at most 250 of them, and refuse names that a file system
would read differently (`a//b`, `/a`, `a/`, `..`). Newer ones allow `:` too; replacing it keeps a
run's names the same whichever server it is sent to.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Final

LONGEST_KEY: Final = 250

_ILLEGAL: Final = re.compile(r"[^\w\-./ ]")
_HIDDEN: Final = frozenset({"", ".", ".."})


class UnsafePathError(ValueError):
    """A path would leave the run's own folder."""


def legal_key(key: str) -> str:
    """The nearest name that a server takes; the same one if it does already."""
    legal = _ILLEGAL.sub("_", key)
    if "/" in legal or legal in _HIDDEN:
        parts = [part for part in legal.split("/") if part]
        parts = ["_" * len(part) if part in _HIDDEN else part for part in parts]
        legal = "/".join(parts) or "_"
    return legal if len(legal) <= LONGEST_KEY else _marked(legal, key)


def legal_path(path: str) -> str:
    """A path inside the run's artifacts, from the root of them.

    Raises:
        UnsafePathError: It leaves them, or is none.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path:
        raise UnsafePathError(f"{path!r} is no path inside the run's artifacts")
    return "/".join(parts)


def _marked(legal: str, key: str) -> str:
    """A name that no other key is likely to get."""
    mark = hashlib.blake2s(key.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{legal[: LONGEST_KEY - len(mark) - 1]}-{mark}"


class Names:
    """Which name each key has got. A name once given stays, or points would change their series.

    Args:
        renamed: Names given earlier to keys that could not keep theirs.
        taken: Names that the server knows.

    Attributes:
        renamed: As given, and those since.
    """

    def __init__(self, renamed: Mapping[str, str], taken: Collection[str] = ()) -> None:
        self.renamed: dict[str, str] = dict(renamed)
        self._given = set(self.renamed.values())
        self._kept = set(taken) - self._given

    def of(self, key: str) -> str:
        """The name of a key."""
        found = self.renamed.get(key)
        if found is not None:
            return found
        if key in self._kept:
            return key
        legal = legal_key(key)
        if legal in self._given or (legal != key and legal in self._kept):
            legal = _marked(legal, key)
        if legal == key:
            self._kept.add(key)
        else:
            self.renamed[key] = legal
            self._given.add(legal)
        return legal
