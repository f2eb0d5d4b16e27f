"""An experiment as Comet has it, and what Comet answers about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from sinks._json_answers import text

_MEGABYTE: Final = 1 << 20
_LARGEST: Final = 200
"""Megabytes of an asset where Comet names no limit, as in its documentation."""
_BEAT: Final = 10.0
_SLOWEST: Final = 300.0


@dataclass(frozen=True, slots=True)
class RemoteExperiment:
    """An experiment as Comet has it.

    Attributes:
        key: Its key.
        run_id: What Comet calls this client's part in it.
        project_id: The project it is in.
        page: Where a person can look at it.
        offset: Console lines it has.
        largest: Bytes that an asset may have.
        direct: Whether large files may go to storage in parts; those have no largest size.
    """

    key: str
    run_id: str
    project_id: str
    page: str
    offset: int
    largest: int
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """What Comet answers to a sign of life.

    Attributes:
        interval: Seconds until it wants the next one.
        calls: Whether somebody asks something of the run.
    """

    interval: float
    calls: bool


def remote(key: str, answer: Mapping[str, JsonValue]) -> RemoteExperiment:
    """An experiment, of what Comet answers to who makes it or goes on with it.

    Raises:
        UnavailableError: It is no such answer.
    """
    offset = answer.get("lastOffset")
    largest = answer.get("asset_upload_file_size_limit_in_mb")
    return RemoteExperiment(
        key=key,
        run_id=text(answer, "runId"),
        project_id=str(answer.get("project_id") or ""),
        page=f"{answer.get('focusUrl') or ''}{key}",
        offset=offset if isinstance(offset, int) else 0,
        largest=(largest if isinstance(largest, int) else _LARGEST) * _MEGABYTE,
        direct=answer.get("s3DirectAccessEnabled") is True,
    )


def public(key: str, link: JsonValue) -> RemoteExperiment:
    """An experiment of which the REST interface tells nothing but its address."""
    page = link if isinstance(link, str) else ""
    return RemoteExperiment(key, "", "", page, offset=0, largest=_LARGEST * _MEGABYTE)


def interval(milliseconds: JsonValue) -> float:
    """Seconds until the next sign of life, of what Comet answers."""
    if not isinstance(milliseconds, (int, float)) or milliseconds <= 0:
        return _BEAT
    return min(milliseconds / 1000, _SLOWEST)
