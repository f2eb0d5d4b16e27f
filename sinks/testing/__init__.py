"""A conformance kit with which a sink proves that it loses nothing, whatever its server does.

Needs pytest, and the command `openssl` for one of the tests. A sink that posts to a service of
yours is proved by this, in a test file of your own:

```python
import pytest
from sinks.testing import Received, Reply, ScriptedServer, SinkSuite

from my_package import CsvServer


class TestCsvServer(SinkSuite):
    secrets = ("key-0123456789",)

    def make_sink(self, server):
        return CsvServer(url=f"{server.url}/rows", api_key="key-0123456789", timeout=1.0)

    def service(self, request: Received) -> Reply:
        if request.headers.get("authorization") != "Bearer key-0123456789":
            return Reply(401)
        return Reply(200, {"ok": True})

    def received(self, server: ScriptedServer) -> list[float]:
        lines = b"".join(request.body for request in server.applied).decode().split()
        return [float(line.split(",")[1]) for line in lines]
```

The suite journals runs whose events are `MetricsLogged(step=n, metrics={"n": n})` and delivers
them with `bus.sync_run` over real sockets, with back-offs of some milliseconds, while the server
resets connections, answers 429 and 5xx, takes a batch and drops the answer, answers byte by byte,
incompletely, endlessly or with another page, redirects elsewhere, shows a certificate of its own
making, or cannot be found. Beside a run that goes on meanwhile, the server refuses, resets or is
silent for good, from the run's start, its middle or its end. Then it asks `received` what the
service holds: everything, in order, and once if the sink's `promise` says so. An event that the
service refuses must become a dead letter; secrets must be in no error, log, repr or file; settings
must survive as plain data.

What the suite cannot know is asked of methods that may be overridden: `told_outcome` if the
service is told how a run ends, `is_poisoned` if the value 1313131313 cannot be found in the body
of a request, `refuses = False` if the service never refuses an event, `rules` for what each
request must keep. A sink that promises "once" has a double that recognises what comes twice.

`ScriptedServer` and the faults serve other tests as well: `server.next(status(503), serve)` says
what becomes of the next requests, `server.always` of all others.
"""

import pytest

pytest.register_assert_rewrite("sinks.testing._suite")

from sinks.testing._faults import (  # noqa: E402 - the suite's assertions are rewritten first
    FAULTS,
    Fault,
    apply_then_drop,
    bad_json,
    busy,
    echo,
    giant,
    hung_names,
    redirect,
    reset,
    self_signed,
    silent,
    slow_loris,
    status,
    truncated,
    zip_bomb,
)
from sinks.testing._runs import write_run  # noqa: E402
from sinks.testing._server import (  # noqa: E402
    Action,
    Exchange,
    Received,
    Reply,
    Rule,
    ScriptedServer,
    Service,
    serve,
)
from sinks.testing._suite import POISON, SinkSuite, numbers  # noqa: E402

__all__ = [
    "FAULTS",
    "POISON",
    "Action",
    "Exchange",
    "Fault",
    "Received",
    "Reply",
    "Rule",
    "ScriptedServer",
    "Service",
    "SinkSuite",
    "apply_then_drop",
    "bad_json",
    "busy",
    "echo",
    "giant",
    "hung_names",
    "numbers",
    "redirect",
    "reset",
    "self_signed",
    "serve",
    "silent",
    "slow_loris",
    "status",
    "truncated",
    "write_run",
    "zip_bomb",
]
