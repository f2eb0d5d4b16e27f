"""A sink for a service of one's own, in 40 lines: it takes points as JSON, with a token.

Retries, pauses, back-off, the journal's cursor, dead letters and closing are `HttpSink`'s.
csv_server.py has more: several requests a batch, keys against repetition, and its proof.

    POINTS_URL=https://points.example.org POINTS_TOKEN=... python examples/own_service.py
"""

from collections.abc import Mapping

from pydantic import Field, HttpUrl, JsonValue, SecretStr
from small_loop import train

import runtime
from bus import Batch, MetricsLogged, Promise, SinkContext, State
from sinks import HttpSettings, HttpSink


class PointsSink(HttpSink):
    """Posts each batch of metrics as one list of points. Delivery: at least once."""

    name = "points"
    wants = (MetricsLogged,)
    promise = Promise(delivery="at least once", resumed="shows both")

    class Settings(HttpSettings, env_prefix="POINTS_"):
        """Where the service is, and who asks."""

        url: HttpUrl = Field(description="the address that takes points")
        token: SecretStr = Field(description="who may write them")

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _run: str

    def headers(self) -> Mapping[str, str]:
        """Sent to the service in the settings and to nobody else."""
        return {"authorization": f"Bearer {self.settings.token.get_secret_value()}"}

    async def open(self, context: SinkContext, state: State) -> State:
        """Remember which run it is."""
        self._run = context.name
        return state

    async def write(self, batch: Batch, state: State) -> State:
        """Post a batch; what the answer means is decided by its status."""
        events = [record.event for record in batch if isinstance(record.event, MetricsLogged)]
        points: list[JsonValue] = [{"step": event.step, **event.metrics} for event in events]
        await self.http.post(str(self.settings.url), json={"run": self._run, "points": points})
        return state


def main() -> None:
    """Train for 300 steps; settings come from the environment."""
    with runtime.Run(name="own_service", sinks=[PointsSink()]) as run:
        train(run)


if __name__ == "__main__":
    main()
