"""A run's log entries as one table in HTML, without a library."""

from collections.abc import Iterable, Mapping
from html import escape
from itertools import chain
from typing import Final

_MOST: Final = 2000
"""Rows that a page shows; of more, so many are shown in even distances."""


def log_table(entries: Iterable[Mapping[str, float | None]]) -> str:
    """A table with a row for each entry and a column for each key, in order of appearance."""
    rows = list(entries)
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    shown = _thinned(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>\n"
        for row in shown
    )
    note = f"<p>{len(shown)} of {len(rows)} entries</p>\n" if len(shown) < len(rows) else ""
    return f'{note}<table border="1">\n<tr>{head}</tr>\n{body}</table>\n'


def _thinned(rows: list[Mapping[str, float | None]]) -> list[Mapping[str, float | None]]:
    """Rows in even distances, the last one among them."""
    if len(rows) <= _MOST:
        return rows
    distance = (len(rows) - 1) / (_MOST - 1)
    return [rows[round(index * distance)] for index in range(_MOST)]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
