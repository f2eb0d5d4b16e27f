"""The destination in csv_server.py proves itself with the conformance kit."""

from csv_server import CsvServer

from sinks.testing import Received, Reply, ScriptedServer, SinkSuite

KEY = "key-0123456789"


class TestCsvServer(SinkSuite):
    """The double refuses a wrong key, and stores no key's rows twice."""

    secrets = (KEY,)
    patience = 6.0

    def setup_method(self) -> None:
        """A double that has seen nothing yet."""
        self.seen: set[str] = set()

    def make_sink(self, server: ScriptedServer) -> CsvServer:
        """Few rows a request, so that batches need several; short timeouts, so that tests end."""
        return CsvServer(url=server.url, api_key=KEY, rows=4, timeout=1.0, read_timeout=0.7)

    def service(self, request: Received) -> Reply:
        """As the server answers."""
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Reply(401)
        key = request.headers["idempotency-key"]
        known = key in self.seen
        self.seen.add(key)
        return Reply(409 if known else 201)

    def received(self, server: ScriptedServer) -> list[float]:
        """The values of all rows under a key that was new."""
        stored = {request.headers["idempotency-key"]: request.body for request in server.applied}
        rows = b"".join(stored.values()).decode().splitlines()
        return [float(row.split(",")[2]) for row in rows]
