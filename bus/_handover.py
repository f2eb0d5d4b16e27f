"""What a delivery process and the process that trains say to each other, one JSON object a line.

Towards it, on its standard input: a `Handover` first, then `Finish` once or twice. Back, on its
standard output: a `Report` for each sink whenever something changes. Settings travel here and
nowhere else, so that no secret stands in a process list or an environment.
"""

import importlib
import logging
import sys
from pathlib import Path
from typing import ClassVar, cast

from pydantic import BaseModel, ConfigDict, JsonValue, SecretBytes, SecretStr

from bus._events import Outcome
from bus._requests import REQUEST_TYPES, Request
from bus._sink import Sink, SinkContext
from bus._sink_account import SinkAccount
from bus._sink_settings import SinkSettings

log = logging.getLogger("bus")


class _Message(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class PlainSink(_Message):
    """A sink as plain data.

    Attributes:
        target: Its class, as "module:Class".
        settings: Its settings, secrets included.
    """

    target: str
    settings: dict[str, JsonValue]

    @classmethod
    def of(cls, sink: Sink) -> "PlainSink":
        """Describe a sink."""
        kind = type(sink)
        return cls(
            target=f"{kind.__module__}:{kind.__qualname__}", settings=_revealed(sink.settings)
        )

    def make(self) -> Sink:
        """Build it again."""
        module, _, name = self.target.partition(":")
        kind = cast("type[Sink]", getattr(importlib.import_module(module), name))
        return kind(**self.settings)


class Handover(_Message):
    """Everything a delivery process needs.

    Attributes:
        run_dir: The run's folder.
        run_id: Its identity, with `name` and `project`.
        parent: The process that trains.
        path: Where that one imports from.
        look: Seconds between two looks at the journal.
    """

    run_dir: Path
    run_id: str
    name: str
    project: str | None
    parent: int
    path: list[str]
    sinks: list[PlainSink]
    look: float

    @classmethod
    def of(
        cls, context: SinkContext, sinks: list[PlainSink], *, parent: int, look: float
    ) -> "Handover":
        """Describe a run's deliveries."""
        return cls(
            run_dir=context.run_dir.absolute(),
            run_id=context.run_id,
            name=context.name,
            project=context.project,
            parent=parent,
            path=sys.path,
            sinks=sinks,
            look=look,
        )

    @property
    def context(self) -> SinkContext:
        """What the sinks are told."""
        return SinkContext(
            run_dir=self.run_dir, run_id=self.run_id, name=self.name, project=self.project
        )


class Finish(_Message):
    """The run has ended; deliver what is there and end. A later one may leave less time.

    Attributes:
        seconds: How long that may take.
    """

    outcome: Outcome
    seconds: float


class Report(_Message):
    """How a sink does.

    Attributes:
        asked: Requests to the training that it has just made.
        last: Whether its delivery has come to an end.
    """

    account: SinkAccount
    asked: tuple[dict[str, JsonValue], ...] = ()
    last: bool = False

    @property
    def requests(self) -> list[Request]:
        """What it asks, as far as this process knows such requests."""
        found: list[Request] = []
        for plain in self.asked:
            kind = REQUEST_TYPES.get(str(plain.get("type")))
            if kind is None or not issubclass(kind, Request):
                log.warning(
                    "%s asks for %r, which is defined only in its own process; define the request "
                    "where the sink is defined",
                    self.account.name,
                    plain.get("type"),
                )
            else:
                found.append(kind.model_validate(plain))
        return found


def is_portable(sink: Sink) -> bool:
    """Whether another process can build it: its class can be imported there."""
    kind = type(sink)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__ or not sink.portable:
        return False
    found: object = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def _revealed(settings: SinkSettings) -> dict[str, JsonValue]:
    """Settings as JSON with their secrets as they are."""
    return {name: _plain(getattr(settings, name)) for name in type(settings).model_fields}


def _plain(value: object) -> JsonValue:  # noqa: PLR0911 - a list of cases
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, SecretBytes):
        return value.get_secret_value().decode()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        return {str(key): _plain(each) for key, each in pairs.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in cast("list[object]", value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
