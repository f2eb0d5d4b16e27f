"""Pushes a run's latest numbers to Prometheus' Pushgateway.

A push replaces everything that the gateway holds of the run (`PUT /metrics/job/...`), so that one
that comes again changes nothing, and a gateway that was started anew knows all of it after the
next push.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from bus import (
    Batch,
    BatchLimits,
    Event,
    Outcome,
    Promise,
    RunEnded,
    RunStarted,
    SinkContext,
    State,
)
from sinks._http import HttpSettings, HttpSink
from sinks._prometheus_text import gauges, group_path, is_label, metric_name, number_text
from sinks._scalars import NUMBERS, Place, ScalarReader

__all__ = ["PushgatewaySink"]

_OUTCOMES: Final = ("finished", "failed", "stopped", "preempted", "crashed")


def _labels(value: object) -> object:
    """`team=nlp,gpu=h100`, or a JSON object."""
    if not isinstance(value, str) or value.lstrip().startswith("{"):
        return json.loads(value) if isinstance(value, str) else value
    pairs = (each.partition("=") for each in value.split(",") if each.strip())
    return {name.strip(): text.strip() for name, _, text in pairs}


def _allowed(labels: dict[str, str]) -> dict[str, str]:
    wrong = [name for name in labels if not is_label(name) or name in ("job", "run")]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} cannot be labels; write letters, digits and '_'")
    return labels


def _is_address(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise ValueError("an address begins with http:// or https://")
    return address.rstrip("/")


class _Known(Place):
    """What the gateway is to hold.

    Attributes:
        values: Each key's latest number, as text.
        time: When the latest event happened, in Unix seconds.
        outcome: How the run ended, if it has.
    """

    values: dict[str, str] = Field(default_factory=dict[str, str])
    time: float = 0.0
    outcome: str | None = None


class PushgatewaySink(HttpSink):
    """Prometheus' Pushgateway: each metric's latest value, as a gauge for dashboards and alerts.

    The key `train/loss` is `hotloop_train_loss{key="train/loss"}`; beside it are
    `hotloop_run_step`, `hotloop_run_last_event_timestamp_seconds` and `hotloop_run_ended`, 1 for
    the outcome that the run had. The group is
    the `job`, the `run` and the labels of the settings.
    """

    name: ClassVar[str] = "pushgateway"
    wants: ClassVar[tuple[type[Event], ...]] = (*NUMBERS, RunEnded)
    limits: ClassVar[BatchLimits] = BatchLimits(events=5000, bytes=4 << 20, age=5.0)
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="rewrites",
        note="the gateway holds the latest value of each metric and no other",
    )
    help: ClassVar[str] = "https://github.com/prometheus/pushgateway"

    class Settings(HttpSettings, env_prefix="PUSHGATEWAY_"):
        """Where the gateway is, and which group a run is there."""

        url: Annotated[str, AfterValidator(_is_address)] = Field(
            description="the gateway's address; a user and a password may stand in it"
        )
        token: SecretStr | None = Field(None, description="a bearer token, if it wants one")
        job: str | None = Field(
            None, min_length=1, description="the group's job; the run's project by default"
        )
        labels: Annotated[
            dict[str, str], NoDecode, BeforeValidator(_labels), AfterValidator(_allowed)
        ] = Field(
            default_factory=dict[str, str],
            description="further labels of the group, such as team=nlp,host=gpu7",
        )
        prefix: str = Field(
            "hotloop_",
            pattern="^[a-zA-Z_][a-zA-Z0-9_]*$",
            description="what the gauges' names begin with",
        )
        keep: bool = Field(
            default=True, description="whether the group stays there when the run has ended"
        )
        rewrite: bool | None = Field(
            default=None,
            description="Whether metrics are renamed as Transformers does: `eval_loss` to "
            "`eval/loss`, `test_loss` to `test/loss`, any other to `train/...`; by default if it "
            "is `runtime.Trainer` that trains.",
        )

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _address: str
    _reader: ScalarReader

    def headers(self) -> Mapping[str, str]:
        """The token, if there is one."""
        token = self.settings.token
        return {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}

    async def open(self, context: SinkContext, state: State) -> State:
        """Find out the group's address."""
        job = self.settings.job or context.project or "hotloop"
        group = {"job": job, "run": context.name, **self.settings.labels}
        self._address = f"{self.settings.url}/metrics{group_path(group)}"
        self._reader = ScalarReader(self.settings.rewrite)
        return state

    async def write(self, batch: Batch, state: State) -> State:
        """Push what is known after a batch."""
        known = _Known.model_validate(dict(state))
        for event in batch.events:
            self._learn(event, known)
        await self._push(known)
        return known.model_dump()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Tell an end that the run itself could not tell, or take the group away."""
        known = _Known.model_validate(dict(state))
        if not self.settings.keep:
            await self.http.delete(self._address)
        elif known.outcome != outcome:
            known.outcome = outcome
            await self._push(known)
        return known.model_dump()

    def _learn(self, event: Event, known: _Known) -> None:
        known.pass_by(event)
        known.time = max(known.time, event.time)
        if isinstance(event, RunStarted):
            known.outcome = None
        elif isinstance(event, RunEnded):
            known.outcome = event.outcome
        numbers = self._reader.numbers(event, trainer=known.trainer)
        known.values |= {key: number_text(value) for key, value in numbers.items()}

    async def _push(self, known: _Known) -> None:
        prefix = self.settings.prefix
        samples: dict[str, list[tuple[dict[str, str], str]]] = defaultdict(list)
        for key, value in known.values.items():
            samples[f"{prefix}{metric_name(key)}"].append(({"key": key}, value))
        samples[f"{prefix}run_step"].append(({}, str(known.step)))
        samples[f"{prefix}run_last_event_timestamp_seconds"].append(({}, number_text(known.time)))
        samples[f"{prefix}run_ended"] += [
            ({"outcome": each}, str(int(each == known.outcome))) for each in _OUTCOMES
        ]
        await self.http.put(
            self._address,
            content=gauges(samples),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )
