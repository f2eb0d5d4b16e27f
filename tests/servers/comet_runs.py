"""Delivers journals to the stand-in for Comet, and shows what is there."""

from bus import BatchLimits, MetricsLogged, sync_run
from sinks.comet import CometSink
from tests.servers.comet import KEY
from tests.servers.journals import QUICK

_THEIRS = ("curr_step", "curr_epoch", "process duration", "sys.")
"""Parameters and metrics that their client adds: where it is, how long it took, the machine."""


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


def shown(server):
    """An experiment as Comet would show it, without what only one of the two sends."""
    found = server.experiment
    series = {}
    for name, step, epoch, value, context, _ in found.points:
        if name != "epoch" and not name.startswith(_THEIRS):
            series.setdefault(name, set()).add((step, epoch, value, context))
    return {
        "state": (found.alive, found.crashed, found.error),
        "tags": found.tags,
        "params": {k: v for k, v in found.params.items() if k not in _THEIRS},
        "others": {k: v for k, v in found.others.items() if not _ours(k)},
        "series": series,
        "files": {
            (query["fileName"], query.get("type", "asset"), query.get("step")): content
            for query, content, _ in found.assets.values()
        },
    }


def _ours(name):
    """Where our run is and how it ended; that it is ours; its name, which theirs need not have."""
    return name.startswith("hotloop.") or name in ("Created from", "Name")
