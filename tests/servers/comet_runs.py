"""Delivers journals to the stand-in for Comet."""

from bus import BatchLimits, MetricsLogged, sync_run
from sinks.comet import CometSink
from tests.servers.comet import KEY
from tests.servers.journals import QUICK


class SmallBatches(CometSink):
    """Ten records at a time."""

    limits = BatchLimits(events=10, age=0.0)


def deliver(run_dir, server, kind=CometSink, **settings):
    """Deliver what waits; the account of it."""
    sink = kind(**{"url_override": server.url, "api_key": KEY, **settings})
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
    return account


def points(count, key="loss", first=0):
    """So many points of a metric, whose values are their steps."""
    return [MetricsLogged(step=n, metrics={key: float(n)}) for n in range(first, first + count)]
