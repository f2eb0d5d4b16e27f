"""Reads what a sink needs of `clearml.conf`: the scalars of its `api` section.

The file is HOCON (https://github.com/lightbend/config/blob/main/HOCON.md). Of it this reads what
`clearml-init` writes and people do to it: nested and dotted keys, `:` and `=`, quoted and bare
values, comments, and `${VARIABLE}`. Lists and includes are passed over.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<skip> \s+ | , | (?:\#|//)[^\n]* )
  | (?P<close> \} )
  | (?P<list> [:=]\s*\[[^\]]*\] )
  | (?P<open> (?:[:=]\s*)?\{ )
  | [:=][^\S\n]* (?: "(?P<quoted>(?:[^"\\\n]|\\.)*)" | (?P<bare>(?:\$\{[^}\n]*\}|[^\s,{}"])+) )
  | (?P<key> "[^"\n]*" | [\w.-]+ )
    """,
    re.VERBOSE,
)
_VARIABLE: Final = re.compile(r"\$\{\??([^}]+)\}")


def read_api(path: Path) -> dict[str, str]:
    """The settings below `api`, by dotted name, such as `credentials.secret_key`.

    Later ones win, as everywhere in HOCON. A file that cannot be read has none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found = ((name.partition("."), value) for name, value in _scalars(text))
    return {name[2]: value for name, value in found if name[0] == "api" and value}


def _scalars(text: str) -> Iterator[tuple[str, str]]:
    folders: list[str] = []
    key, at = "", 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        at = at + 1 if token is None else token.end()
        kind = None if token is None else token.lastgroup
        if token is None or kind is None:
            continue
        if kind == "key":
            key = token[0].strip('"')
        elif kind == "open":
            folders.append(key)
            key = ""
        elif kind == "close":
            folders = folders[:-1]
        elif kind in ("quoted", "bare"):
            yield ".".join(each for each in (*folders, key) if each), _value(kind, token[kind])


def _value(kind: str, text: str) -> str:
    if kind == "quoted":
        return re.sub(r"\\(.)", r"\1", text)
    return _VARIABLE.sub(lambda found: os.environ.get(found[1], ""), text)
