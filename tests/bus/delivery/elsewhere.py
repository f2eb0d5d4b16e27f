"""Sinks that another process can build: they append what they get to a file."""

import asyncio
import os
import time
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from bus import (
    Batch,
    BatchLimits,
    MetricsLogged,
    Request,
    Sink,
    SinkContext,
    SinkSettings,
    State,
    Stop,
)


class FileSink(Sink):
    """Appends `pid attempt seq value` lines to a file."""

    name = "file"
    wants = (MetricsLogged,)
    limits = BatchLimits(events=50, age=0.05)

    class Settings(SinkSettings, env_prefix="FILE_SINK_"):
        """Where to, and how slowly."""

        path: Path
        token: SecretStr = SecretStr("none")
        seconds: float = 0.0
        raises: bool = False
        hangs: bool = False

    settings: Settings

    async def open(self, context: SinkContext, state: State) -> State:
        self.url = f"file://{self.settings.path}"
        del context
        return state

    async def write(self, batch: Batch, state: State) -> State:
        if self.settings.raises:
            raise RuntimeError(f"a bug near {self.settings.token.get_secret_value()}")
        if self.settings.hangs:
            time.sleep(3600)  # noqa: ASYNC251 - blocking is what is tested
        await asyncio.sleep(self.settings.seconds)
        lines = [f"{os.getpid()} {r.attempt} {r.seq} {r.event.metrics['n']}\n" for r in batch]
        with self.settings.path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
        return state

    async def close(self, outcome: str, state: State) -> State:
        with self.settings.path.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} closed {outcome} .\n")
        return state


class Wish(Request):
    """A request that only this module knows."""

    type: Literal["wish"] = "wish"


class StopButton(FileSink):
    """Somebody presses stop on its page as soon as it looks, and wishes for something."""

    name = "button"

    async def watch(self) -> None:
        self.ask(Wish(reason=f"from {os.getpid()}"))
        self.ask(Stop(reason="pressed on the page"))
