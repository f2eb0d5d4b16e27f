"""How the doctor's findings look in a terminal."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from runtime.cli._output import printable
from runtime.cli.doctor import Finding

_STYLES: Final = {"ok": "green", "warn": "yellow", "problem": "bold red"}


def view(findings: Sequence[Finding]) -> Table:
    """One row per finding, the advice below what it belongs to."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column("level", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in findings:
        found = Text(printable(finding.found))
        if finding.advice:
            found.append(f"\n→ {printable(finding.advice)}", style="dim")
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), finding.check, found)
    return table


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: how many of which."""
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    if not problems and not warnings:
        return "everything is fine"
    return f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}"
