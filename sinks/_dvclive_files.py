"""Takes DVCLive's tables of metrics back to where they were at a point that a sink remembers.

DVCLive appends a row, the step and the value, to `plots/metrics/<name>.tsv` for each number. What a
process that died wrote behind the last acknowledged batch is cut off, and so are the rows of steps
that are trained again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sinks._files import cut

_METRICS: Final = Path("plots", "metrics")


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each table below DVCLive's folder."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in _tables(folder)}


def settle(folder: Path, known: Mapping[str, int]) -> None:
    """Cut tables back to the sizes that they had, and remove those that were not there.

    Raises:
        OSError: The disk refused.
    """
    for path in list(_tables(folder)):
        size = known.get(path.relative_to(folder).as_posix())
        if size is None:
            path.unlink(missing_ok=True)
        else:
            cut(path, size)


def drop_beyond(folder: Path, step: int) -> dict[str, float]:
    """Remove the rows of later steps, and tables that have no others.

    Returns:
        What is left as the latest value of each table, by its metric's name.

    Raises:
        OSError: The disk refused.
    """
    latest: dict[str, float] = {}
    for path in list(_tables(folder)):
        header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        kept = [row for row in rows if int(row.partition("\t")[0]) <= step]
        if not kept:
            path.unlink()
            continue
        name = path.relative_to(folder / _METRICS).as_posix().removesuffix(".tsv")
        latest[name] = float(kept[-1].partition("\t")[2])
        if len(kept) < len(rows):
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text("".join([header, *kept]), encoding="utf-8", newline="")
            fresh.replace(path)
    return latest


def _tables(folder: Path) -> Iterator[Path]:
    return (folder / _METRICS).rglob("*.tsv")
