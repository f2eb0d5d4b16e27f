"""Posts a run's events to a URL, or tells people in Slack and Discord how it goes.

All three deliver at least once: a batch whose answer was lost comes again. Their addresses are
credentials, and are kept out of every message.
"""

import hashlib
import hmac
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, SecretStr
from pydantic_settings import NoDecode

from bus import (
    AlertRaised,
    Batch,
    BatchLimits,
    Coalesces,
    DeliveryError,
    Event,
    MisconfiguredError,
    Outcome,
    Promise,
    Record,
    Response,
    RunEnded,
    RunStarted,
    SinkContext,
    State,
    UnavailableError,
    encode,
)
from sinks._http import HttpSettings, HttpSink
from sinks._messages import (
    DISCORD_EMBEDS,
    SLACK_SECTION,
    Message,
    discord_embed,
    ending,
    message_of,
    slack_section,
    slack_text,
)

__all__ = ["DiscordSink", "SlackSink", "WebhookSink"]


def _is_address(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("https://", "http://")):
        raise ValueError("an address begins with https://")
    return value


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [name for part in value.strip("[]").split(",") if (name := part.strip(" \"'"))]


Address = Annotated[SecretStr, AfterValidator(_is_address)]


class WebhookSink(HttpSink):
    """Posts batches of events as JSON. Delivery: at least once.

    A request's body is `{"run": {"id", "name", "project"}, "attempt", "rank", "events": [...]}`,
    each event as in the journal, with its `seq`. At the end comes one more with no events and the
    run's `outcome`. Header `Hotloop-Delivery` names what is in it, the same when it comes again.
    With a secret, `Hotloop-Signature: t=<Unix seconds>,v1=<hex>` is the HMAC-SHA256 of the seconds,
    a full stop and the body; a receiver compares it and refuses what is too old.
    """

    name: ClassVar[str] = "webhook"
    limits: ClassVar[BatchLimits] = BatchLimits(events=500, age=1.0)
    promise: ClassVar[Promise] = Promise(
        delivery="at least once",
        resumed="shows both",
        note="Hotloop-Delivery and each event's seq tell what comes again",
    )
    help: ClassVar[str] = "any server that takes a POST"

    class Settings(HttpSettings, env_prefix="HOTLOOP_WEBHOOK_"):
        """Where to post, and what."""

        url: Address = Field(description="the address that takes the events")
        secret: SecretStr | None = Field(None, description="signs the requests")
        events: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
            (), description="types of the events to send, such as alert_raised; all by default"
        )
        gzip: bool = Field(default=False, description="whether to compress what is sent")

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _run: bytes = b"{}"

    async def open(self, context: SinkContext, state: State) -> State:
        """Remember which run it is."""
        self._run = orjson.dumps(
            {"id": context.run_id, "name": context.name, "project": context.project}
        )
        self._id = context.run_id
        return state

    async def write(self, batch: Batch, state: State) -> State:
        """Post what is wanted of a batch."""
        wanted = [record for record in batch if self._wants(record.event)]
        if wanted:
            where = f"a{batch.attempt}-rank{batch.rank}"
            head = b'{"run":%b,"attempt":%d,"rank":%d,"events":[' % (
                self._run,
                batch.attempt,
                batch.rank,
            )
            content = head + b",".join(_numbered(record) for record in wanted) + b"]}"
            await self._post(content, f"{self._id}/{where}/{wanted[0].seq}-{wanted[-1].seq}")
            state = {name: value for name, value in state.items() if name != "outcome"}
        return state

    async def close(self, outcome: Outcome, state: State) -> State:
        """Post the outcome, once; a run that crashed could not journal it."""
        if state.get("outcome") == outcome:
            return state
        content = b'{"run":%b,"outcome":"%b","events":[]}' % (self._run, outcome.encode())
        await self._post(content, f"{self._id}/{outcome}")
        return {**state, "outcome": outcome}

    def _wants(self, event: Event) -> bool:
        return not self.settings.events or event.type in self.settings.events

    async def _post(self, content: bytes, delivery: str) -> None:
        headers = {"content-type": "application/json", "hotloop-delivery": delivery}
        if self.settings.secret is not None:
            key = self.settings.secret.get_secret_value().encode()
            headers["hotloop-signature"] = signature(key, content, time.time())
        await self.http.post(
            self.settings.url.get_secret_value(),
            content=content,
            headers=headers,
            gzip=self.settings.gzip,
        )


class _ChatSink(HttpSink):
    """Tells people of alerts, and of the run's beginning and end.

    Of alerts with one title and level that wait to be told, it tells the latest.
    """

    wants: ClassVar[tuple[type[Event], ...]] = (AlertRaised, RunStarted, RunEnded)
    # One that is raised every step would fill a channel after an outage, at a message a second.
    coalesces: ClassVar[Coalesces] = {AlertRaised: ("title", "level")}

    _name: str = ""

    @property
    @abstractmethod
    def _url(self) -> SecretStr:
        """Where to post."""

    @abstractmethod
    def _payload(self, messages: Sequence[Message]) -> JsonValue:
        """The messages in the service's form."""

    async def open(self, context: SinkContext, state: State) -> State:
        """Remember what the run is called."""
        self._name = f"{context.project}/{context.name}" if context.project else context.name
        return state

    async def write(self, batch: Batch, state: State) -> State:
        """Post a batch as one message."""
        told = [message for each in batch.events if (message := message_of(each, self._name))]
        if told:
            await self._post(told)
        for event in batch.events:
            if isinstance(event, RunStarted):
                state = {**state, "outcome": None}
            elif isinstance(event, RunEnded):
                state = {**state, "outcome": event.outcome}
        return state

    async def close(self, outcome: Outcome, state: State) -> State:
        """Tell of an end that the run itself could not tell of."""
        if state.get("outcome") == outcome:
            return state
        await self._post([ending(self._name, outcome, time.time())])
        return {**state, "outcome": outcome}

    async def _post(self, messages: Sequence[Message]) -> None:
        await self.http.post(self._url.get_secret_value(), json=self._payload(messages))


class SlackSink(_ChatSink):
    """Tells a Slack channel of alerts and of the run's beginning and end. Delivery: at least once.

    Uses an incoming webhook (api.slack.com/messaging/webhooks). Nobody is mentioned, whatever the
    texts contain. Of alerts with one title and level that wait to be told, the latest is.
    """

    name: ClassVar[str] = "slack"
    # 50 blocks make a message, one section each; Slack takes one message a second.
    limits: ClassVar[BatchLimits] = BatchLimits(events=40, age=2.0, rates=((1, 1.0),))
    help: ClassVar[str] = (
        "an incoming webhook of your channel: https://api.slack.com/messaging/webhooks"
    )

    class Settings(HttpSettings, env_prefix="SLACK_"):
        """Which channel."""

        webhook_url: Address = Field(description="the incoming webhook's address")

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew

    @property
    def _url(self) -> SecretStr:
        return self.settings.webhook_url

    def _payload(self, messages: Sequence[Message]) -> JsonValue:
        return {
            "text": slack_text("; ".join(message.title for message in messages), SLACK_SECTION),
            "blocks": [slack_section(message) for message in messages],
            "unfurl_links": False,
        }

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """410 says that the channel is gone or archived: somebody has to choose another."""
        if response.status == 410:
            return MisconfiguredError(
                f"HTTP 410: {response.text[:200]}", fix="make a webhook for another channel"
            )
        return super().classify(response, now=now)


class DiscordSink(_ChatSink):
    """Tells a Discord channel of alerts and of a run's beginning and end. Delivery: at least once.

    Uses a channel's webhook (discord.com/developers/docs/resources/webhook). Nobody is mentioned,
    whatever the texts contain. Of alerts with one title and level that wait to be told, the latest
    is.
    """

    name: ClassVar[str] = "discord"
    # Ten embeds make a message; Discord takes five messages in two seconds.
    limits: ClassVar[BatchLimits] = BatchLimits(events=10, age=2.0, rates=((5, 2.0),))
    help: ClassVar[str] = "a webhook of your channel: Edit Channel, Integrations, Webhooks"

    class Settings(HttpSettings, env_prefix="DISCORD_"):
        """Which channel."""

        webhook_url: Address = Field(description="the webhook's address")

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew

    @property
    def _url(self) -> SecretStr:
        return self.settings.webhook_url

    def _payload(self, messages: Sequence[Message]) -> JsonValue:
        share = DISCORD_EMBEDS // len(messages)
        return {
            "embeds": [discord_embed(message, share) for message in messages],
            "allowed_mentions": {"parse": []},
        }

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """429 says in its body how many seconds to wait, with a fraction."""
        error = super().classify(response, now=now)
        if response.status == 429 and isinstance(error, UnavailableError):
            wish = _retry_after(response.text)
            return error if wish is None else UnavailableError(str(error), retry_after=wish)
        return error


def signature(key: bytes, content: bytes, now: float) -> str:
    """What `Hotloop-Signature` holds for a body sent at this time."""
    seconds = str(int(now))
    digest = hmac.new(key, f"{seconds}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _retry_after(text: str) -> float | None:
    try:
        found: object = orjson.loads(text).get("retry_after")
    except (ValueError, AttributeError):
        return None
    return float(found) if isinstance(found, (int, float)) and found >= 0 else None


def _numbered(record: Record) -> bytes:
    return b'{"seq":%d,' % record.seq + encode(record.event)[1:]
