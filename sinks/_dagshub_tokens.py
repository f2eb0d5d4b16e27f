"""Reads the file in which DagsHub's own client keeps access tokens.

It is YAML as `dagshub login` writes it (read in the source of version 0.7.3), and only that form is
understood:

    https://dagshub.com:
    - access_token: 0123456789abcdef
      expiry: never
      token_type: app-token
    version: '1'

An expiry is "never" or a time in UTC. Among several tokens those that never expire come first.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_ENTRY: Final = re.compile(r"(?:- |  )(?P<key>\w+): *(?P<value>.*)")


def tokens_file(environment: Mapping[str, str]) -> Path:
    """Where DagsHub's client keeps its tokens."""
    cache = environment.get("XDG_CACHE_HOME") or "~/.cache"
    named = environment.get("DAGSHUB_CLIENT_TOKENS_CACHE") or f"{cache}/dagshub/tokens"
    return Path(named).expanduser()


def read_token(path: Path, host: str, now: datetime) -> str | None:
    """The token for a host such as https://dagshub.com; None if there is none that is good now."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    good = [each for each in _entries(lines, host) if "access_token" in each and _lasts(each, now)]
    good.sort(key=lambda each: each["expiry"] != "never")
    return good[0]["access_token"] if good else None


def _entries(lines: list[str], host: str) -> Iterator[dict[str, str]]:
    entry: dict[str, str] = {}
    ours = False
    for line in lines:
        if not line.startswith(("-", " ")):
            ours = line.strip(" '\"").rstrip(":").strip("'\"").rstrip("/") == host.rstrip("/")
        elif ours and (found := _ENTRY.fullmatch(line.rstrip())):
            if line.startswith("-"):
                yield from [entry] if entry else []
                entry = {}
            entry[found["key"]] = found["value"].strip("'\"")
    if entry:
        yield entry


def _lasts(entry: Mapping[str, str], now: datetime) -> bool:
    expiry = entry.get("expiry", "")
    if expiry == "never":
        return True
    try:
        when = datetime.fromisoformat(expiry)
    except ValueError:
        return False
    return when.replace(tzinfo=UTC) > now
