"""Tables in Markdown, printed and written to `benchmarks/results`."""

from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table whose columns are aligned for those who read the text itself."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_line(head, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def microseconds(value: float) -> str:
    """Write a duration with three significant digits; no more are to be trusted."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(met: bool) -> str:
    """Say whether a goal was met."""
    return "met" if met else "**missed**"


def write(name: str, parts: Sequence[str], *, quick: bool) -> None:
    """Print a report; keep it as `results/<name>.md` unless it was quick."""
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"
