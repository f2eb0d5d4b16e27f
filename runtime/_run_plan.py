"""What a run will be, before it begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus import JsonObject

if TYPE_CHECKING:
    from bus import Sink


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run will be when it begins."""

    name: str
    project: str | None
    parent: Path
    config: JsonObject
    sinks: "list[Sink]"
