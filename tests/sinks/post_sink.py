"""A small HTTP sink that other processes can import, with faults of its own."""

import time
from pathlib import Path

import anyio
import orjson
from pydantic import SecretStr

from bus import Batch, BatchLimits, MetricsLogged, Promise, SinkSettings, State
from sinks import HttpSink


class PostSink(HttpSink):
    """Posts the numbers of each batch with their places; the server knows what it has got."""

    name = "post"
    wants = (MetricsLogged,)
    limits = BatchLimits(events=20, age=0.0)
    promise = Promise(delivery="once")
    write_timeout = 3.0

    class Settings(SinkSettings, env_prefix="POST_SINK_"):
        """The address, a key, and a file whose existence means that the sink is broken."""

        url: str
        key: SecretStr = SecretStr("planted-secret-key")
        broken: Path | None = None
        way: str = ""

    settings: Settings

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.settings.key.get_secret_value()}"}

    async def write(self, batch: Batch, state: State) -> State:
        broken = self.settings.broken
        if broken is not None and broken.exists():
            if self.settings.way == "raises":
                raise KeyError("a bug")
            if self.settings.way == "hangs":
                await anyio.sleep_forever()
            if self.settings.way == "blocks the loop":
                time.sleep(3600)  # noqa: ASYNC251 - blocking is what is tested
        rows = [[r.attempt, r.seq, r.event.metrics["n"]] for r in batch]
        await self.http.post(self.settings.url, content=orjson.dumps(rows))
        return state
