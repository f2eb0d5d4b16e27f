"""Sends what a plan holds, keeps the run alive while nothing is sent, and hears its stop button."""

from collections.abc import Callable

import anyio
import orjson
from pydantic import JsonValue

from sinks._wandb_artifacts import Artifacts
from sinks._wandb_plan import Alert, Configure, Step, StoreArtifact, StoreFile, Stream
from sinks._wandb_server import Place, WandbServer


class Sender:
    """The way to one run; its file stream is sent one request at a time.

    Args:
        server: The server.
        artifacts: What uploads its files.
        place: Where the run is.
        stopped: Called once, when somebody has pressed the stop button.
        heartbeat: Seconds of silence after which a sign of life is sent.
    """

    def __init__(
        self,
        server: WandbServer,
        artifacts: Artifacts,
        place: Place,
        *,
        stopped: Callable[[], object],
        heartbeat: float,
    ) -> None:
        self._server = server
        self._artifacts = artifacts
        self._place = place
        self._stopped = stopped
        self._heartbeat = heartbeat
        self._lock = anyio.Lock()
        self._sent_at = anyio.current_time()
        self._was_stopped = False

    async def send(self, step: Step) -> None:
        """Send one step of a plan.

        Raises:
            DeliveryError: As `HttpClient.request`.
        """
        if isinstance(step, Stream):
            await self.stream(step.body)
        elif isinstance(step, Configure):
            await self.configure(step.config)
        elif isinstance(step, Alert):
            await self._server.alert(self._place, step)
        elif isinstance(step, StoreFile):
            await self._artifacts.store_file(step)
        elif isinstance(step, StoreArtifact):
            await self._artifacts.store(step.upload)

    async def configure(self, config: str) -> None:
        """Replace the run's configuration."""
        place = self._place
        variables: dict[str, JsonValue] = {
            "name": place.run_id,
            "project": place.project,
            "entity": place.entity,
            "config": config,
        }
        await self._server.upsert(variables)

    async def stream(self, body: dict[str, JsonValue]) -> None:
        """Send one request to the file stream; an empty one is a sign of life."""
        async with self._lock:
            stopped = await self._server.stream(self._place, orjson.dumps(body))
            self._sent_at = anyio.current_time()
        if stopped and not self._was_stopped:
            self._was_stopped = True
            self._stopped()

    async def keep_alive(self) -> None:
        """Send a sign of life whenever nothing else was sent for a while, for ever."""
        while True:
            left = self._sent_at + self._heartbeat - anyio.current_time()
            if left > 0:
                await anyio.sleep(left)
            else:
                await self.stream({})

    def release(self) -> None:
        """Let go of what is being uploaded."""
        self._artifacts.release()
