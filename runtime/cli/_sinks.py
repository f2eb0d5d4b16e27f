"""`hotloop sinks`: every destination and how it stands."""

from typing import Final

from rich.table import Table
from rich.text import Text

from bus import SINKS, SinkInfo
from runtime.cli._output import printable

_STYLES: Final = {"ready": "green", "not configured": "yellow", "missing": "dim"}


def look() -> list[SinkInfo]:
    """What is known of every destination."""
    return [SINKS.look(name) for name in SINKS.names()]


def view(found: list[SinkInfo]) -> Table:
    """A table of them."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("sink", "state", "delivers", "what it is, or what to do"):
        table.add_column(heading, overflow="fold")  # addresses may be longer than it is wide
    for each in found:
        table.add_row(
            Text(printable(each.name)),
            Text(each.readiness, style=_STYLES[each.readiness]),
            Text(each.delivery),
            Text(printable(each.why or each.summary)),
        )
    return table
