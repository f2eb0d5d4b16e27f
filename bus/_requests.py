"""What can be asked of a training loop: typed requests, and what became of them."""

import time
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal, TypeVar, cast

from annotated_types import Gt
from pydantic import ConfigDict, FiniteFloat

from bus._event import Text
from bus._types import FrozenModel, TypeRegistry

REQUEST_TYPES: Final = TypeRegistry()
"""Every concrete request class by its type."""


class Request(FrozenModel):
    """Something asked of the training loop, in the imperative. Subclass it for your own.

    A subclass names itself with `type: Literal["..."] = "..."`.

    Attributes:
        reason: Why, for people and for the journal.
        by: Who asks; filled in with the subscriber's or thread's name when empty.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    type: str
    reason: Text = ""
    by: Text = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        REQUEST_TYPES.register(cls)


class Stop(Request):
    """End training after this step; the run's outcome becomes `stopped`."""

    type: Literal["stop"] = "stop"


class Preempt(Stop):
    """Give the machine back: save if there is time, and end as `preempted`, to go on elsewhere.

    Attributes:
        deadline: When the process will be killed, in Unix seconds; None if nobody said.
        signal: The signal that announced it, such as `SIGTERM`; empty if none did.
    """

    type: Literal["preempt"] = "preempt"  # type: ignore[assignment]  # each class has its own # pyright: ignore[reportIncompatibleVariableOverride]
    deadline: FiniteFloat | None = None
    signal: str = ""

    def seconds_left(self) -> float | None:
        """Seconds until the deadline, less than 0 when it is over; None if there is none."""
        return None if self.deadline is None else self.deadline - time.time()


class Save(Request):
    """Write a checkpoint after this step."""

    type: Literal["save"] = "save"


class Evaluate(Request):
    """Evaluate after this step."""

    type: Literal["evaluate"] = "evaluate"


class Log(Request):
    """Log the current metrics after this step."""

    type: Literal["log"] = "log"


class SetLearningRate(Request):
    """Continue with this learning rate.

    Attributes:
        value: The rate, positive and finite.
    """

    type: Literal["set_learning_rate"] = "set_learning_rate"
    value: Annotated[FiniteFloat, Gt(0)]


RequestT = TypeVar("RequestT", bound=Request)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a safe point found: everything asked since the one before.

    Attributes:
        stop: Leave the loop. Once true it stays true at every later safe point. Whether it is for a
            preemption, and until when, `of(Preempt)` says.
        save: Write a checkpoint now.
        evaluate: Evaluate now.
        log: Log now.
        learning_rate: Continue with this rate; None to leave it.
        requests: The requests themselves, oldest first; users' own among them.
    """

    stop: bool = False
    save: bool = False
    evaluate: bool = False
    log: bool = False
    learning_rate: float | None = None
    requests: tuple[Request, ...] = field(default=())

    def of(self, kind: type[RequestT]) -> tuple[RequestT, ...]:
        """The requests of one class, oldest first."""
        return tuple(request for request in self.requests if isinstance(request, kind))


def combine(requests: tuple[Request, ...], *, stopped: bool) -> Decision:
    """Turn requests into one decision; of several learning rates the last one counts."""
    rates = [request.value for request in requests if isinstance(request, SetLearningRate)]
    return Decision(
        stop=stopped or any(isinstance(request, Stop) for request in requests),
        save=any(isinstance(request, Save) for request in requests),
        evaluate=any(isinstance(request, Evaluate) for request in requests),
        log=any(isinstance(request, Log) for request in requests),
        learning_rate=rates[-1] if rates else None,
        requests=requests,
    )


def parse_request(data: object) -> Request:
    """Make the request again of its JSON form.

    Raises:
        ValueError: This process defines no request of its type, or the fields are not valid.
    """
    fields = cast("dict[str, object]", data) if isinstance(data, dict) else {}
    name = fields.get("type")
    kind = REQUEST_TYPES.get(name) if isinstance(name, str) else None
    if kind is None or not issubclass(kind, Request):
        raise ValueError(f"it holds no request that this process knows: {data!r:.80}")
    return kind.model_validate(data)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a request.

    Attributes:
        applied: Whether it took effect.
        step: The step at which it did.
        why: What stood in its way if it did not.
    """

    applied: bool
    step: int | None = None
    why: str = ""
