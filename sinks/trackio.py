"""Writes a run to Trackio: to its database on this machine, or to a server of one's own."""

import importlib.util
import time
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import parse_qs

from pydantic import Field, SecretStr, model_validator

from bus import (
    Batch,
    BatchLimits,
    DeliveryError,
    Event,
    MisconfiguredError,
    Outcome,
    Promise,
    Response,
    SinkContext,
    State,
)
from sinks._http import HttpSettings, HttpSink
from sinks._trackio_places import LocalStore, ServerStore, Store
from sinks._trackio_rows import WANTED, Known, RowMaker

__all__ = ["TrackioSink"]


class TrackioSink(HttpSink):
    """Trackio: metrics with their steps, settings, numbers about the machine and alerts of a run.

    Without an address it writes the database that `trackio show` reads on this machine. Rows are
    known by an id, so that a batch that comes again changes nothing.
    """

    name: ClassVar[str] = "trackio"
    wants: ClassVar[tuple[type[Event], ...]] = WANTED
    limits: ClassVar[BatchLimits] = BatchLimits(events=1000, age=1.0)
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="shows both",
        note="on a server rows of metrics have the time at which they arrived",
    )
    help: ClassVar[str] = "https://huggingface.co/docs/trackio"

    class Settings(
        HttpSettings, env_prefix="TRACKIO_", env_ignore_empty=True, populate_by_name=True
    ):
        """Where Trackio is, and what a run is called there."""

        server_url: str | None = Field(
            None,
            pattern="^https?://",
            description="address of a Trackio server, as `trackio show` prints it; without one the "
            "database on this machine, below TRACKIO_DIR",
        )
        write_token: SecretStr | None = Field(
            None, description="the server's token; found in the address too"
        )
        project: str | None = Field(
            None, min_length=1, description="project; the run's own by default"
        )
        rewrite: bool | None = Field(
            default=None,
            validation_alias="HOTLOOP_TRACKIO_REWRITE",
            description="Whether metrics are renamed as Transformers does: `eval_loss` to "
            "`eval/loss`, `test_loss` to `test/loss`, any other to `train/...`; by default if it "
            "is `runtime.Trainer` that trains.",
        )

        @model_validator(mode="before")
        @classmethod
        def _apart(cls, data: dict[str, object]) -> dict[str, object]:
            """The address that Trackio prints has the token in it; here each has its place."""
            address = data.get("server_url")
            if not isinstance(address, str):
                return data
            bare, _, query = address.partition("?")
            tokens = parse_qs(query).get("write_token", [])
            found = {"write_token": tokens[0]} if tokens else {}
            return {**data, **found, "server_url": bare.rstrip("/")}

        @model_validator(mode="after")
        def _usable(self) -> "TrackioSink.Settings":
            if self.server_url is not None and self.write_token is None:
                raise ValueError("set write_token (or TRACKIO_WRITE_TOKEN) for TRACKIO_SERVER_URL")
            if self.server_url is None and importlib.util.find_spec("trackio") is None:
                raise ValueError(
                    "the trackio package is not installed: pip install 'hotloop[trackio]', or let "
                    "TRACKIO_SERVER_URL name a server, which needs none"
                )
            return self

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _store: Store | None = None
    _maker: RowMaker

    def headers(self) -> Mapping[str, str]:
        """The server's token."""
        token = self.settings.write_token
        return {} if token is None else {"x-trackio-write-token": token.get_secret_value()}

    async def check(self) -> str:
        """Ask the server, or say which database it would be."""
        if self.settings.server_url is not None:
            return await super().check()
        return "trackio is installed; its database is on this machine"

    async def open(self, context: SinkContext, state: State) -> State:
        """Find the place that takes the rows."""
        self._let_go()
        known = Known.model_validate(dict(state))
        run = {
            "project": self.settings.project or context.project or "hotloop",
            "run": context.name,
            "run_id": context.run_id,
        }
        address = self.settings.server_url
        store: Store = LocalStore(**run)
        if address is not None:
            store = ServerStore(self.http, address, **run)
        self._store = store
        self._maker = RowMaker(context.run_id, self.settings.rewrite)
        self.url: str | None = await store.open()
        return known.model_dump()

    async def write(self, batch: Batch, state: State) -> State:
        """Store a batch."""
        known = Known.model_validate(dict(state))
        assert self._store is not None
        await self._store.write(self._maker.rows(batch, known))
        return known.model_dump()

    async def close(self, outcome: Outcome, state: State) -> State:
        """Tell of settings that came after the last numbers."""
        del outcome
        known = Known.model_validate(dict(state))
        rows = self._maker.last(known, time.time())
        if rows is not None:
            assert self._store is not None
            await self._store.write(rows)
        return known.model_dump()

    async def release(self) -> None:
        """Close the connections, and end the thread."""
        self._let_go()
        await super().release()

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """A wrong token is a 400 there, and no fault of the rows."""
        if response.status == 400 and "write_token" in response.text:
            return MisconfiguredError(
                f"HTTP 400: {response.text[:200]}", fix="set TRACKIO_WRITE_TOKEN to the server's"
            )
        return super().classify(response, now=now)

    def _let_go(self) -> None:
        if self._store is not None:
            self._store.end()
            self._store = None
