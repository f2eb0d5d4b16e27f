"""A destination of one's own: rows of comma-separated values, posted to a server that stores them.

The server takes `POST /rows` with a bearer token, and a key in `Idempotency-Key`; rows whose key it
has seen it does not store again and answers 409. It takes so many rows a request and ten requests a
second.

    export CSV_SERVER_URL=https://rows.example.org CSV_SERVER_API_KEY=...
    python examples/csv_server.py
"""

from collections.abc import Mapping, Sequence

from pydantic import Field, HttpUrl, PositiveInt, SecretStr

import runtime
from bus import (
    Batch,
    BatchLimits,
    DeliveryError,
    MetricsLogged,
    Promise,
    Record,
    Response,
    SinkContext,
    State,
)
from sinks import HttpSettings, HttpSink


class CsvServer(HttpSink):
    """Posts metrics as rows of CSV. Delivery: once, the server knows what comes twice."""

    name = "csv-server"
    wants = (MetricsLogged,)
    limits = BatchLimits(events=2000, age=2.0, rates=((10, 1.0),))
    promise = Promise(delivery="once", resumed="shows both", note="as long as it keeps its keys")
    help = "a key for the API: https://rows.example.org/keys"

    class Settings(HttpSettings, env_prefix="CSV_SERVER_"):
        """Where the server is, and who asks."""

        url: HttpUrl = Field(description="the server's address")
        api_key: SecretStr = Field(description="a key that may write rows")
        rows: PositiveInt = Field(500, description="events for one request")

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _run_id: str

    def headers(self) -> Mapping[str, str]:
        """Sent to the server in the settings and to nobody else."""
        return {"authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """409 says that the rows are there already: an earlier answer was lost."""
        if response.status == 409:
            return None
        return super().classify(response, now=now)

    async def open(self, context: SinkContext, state: State) -> State:
        """Remember which run it is."""
        self._run_id = context.run_id
        return state

    async def write(self, batch: Batch, state: State) -> State:
        """Post a batch in as many requests as the server wants, each acknowledged by itself."""
        size = self.settings.rows
        records = list(batch)
        for start in range(0, len(records), size):
            part = records[start : start + size]
            await self._post(part, batch)
            if start + size < len(records):
                await batch.commit(len(part), state)
        return state

    async def _post(self, records: Sequence[Record], batch: Batch) -> None:
        place = f"a{batch.attempt}-rank{batch.rank}-{records[0].seq}-{records[-1].seq}"
        await self.http.post(
            f"{str(self.settings.url).rstrip('/')}/rows",
            content="".join(map(_lines, records)),
            headers={"content-type": "text/csv", "idempotency-key": f"{self._run_id}/{place}"},
            gzip=True,
        )


def _lines(record: Record) -> str:
    """One row for each metric: its step, its name and its value."""
    event = record.event
    assert isinstance(event, MetricsLogged)
    return "".join(f"{event.step},{name},{value!r}\n" for name, value in event.metrics.items())


if __name__ == "__main__":
    with runtime.Run(name="rows", sinks=[CsvServer()]) as run:
        for step in range(1, 101):
            run.log({"loss": 1 / step}, step=step)
