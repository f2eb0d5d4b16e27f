"""What came of a run, read from its journal and its counters; every number was measured."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bus import DecisionApplied, JournalReader, Outcome
from runtime import Run, Trainer
from runtime._checkpoint_files import find_checkpoints
from runtime._console_words import duration
from runtime.demo._trainer import evaluations

CHECKPOINTS: Final = "checkpoints"
"""The folder of checkpoints in the run's."""

_DECISIONS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class DecisionTaken:
    """A request that took effect.

    Attributes:
        step: After which step.
        request: Its type, such as `stop`.
        by: Who asked.
        reason: Why.
    """

    step: int
    request: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary:
    """A finished demo.

    Attributes:
        run_dir: The run's folder.
        outcome: How the last attempt ended.
        reason: Who stopped it and why, if it was stopped.
        attempts: Processes that worked on it, killed ones included.
        steps: Optimizer steps taken.
        parameters: Numbers the model learned.
        seconds: How long the last attempt took.
        loss_before: Validation loss before the first step, in nats per byte.
        loss_after: The last validation loss.
        loss_best: The lowest one.
        sample: What the model writes now.
        publish_p50_us: Median time of `run.log` on the training thread, in microseconds.
        publish_p99_us: Its 99th percentile.
        publish_samples: Calls that were timed for it, some of all.
        published: Events that the last attempt published.
        journalled: Those that are in its journal.
        dropped: Those that were lost.
        decisions: Requests that took effect, oldest first, over all attempts.
        checkpoints: Those on disk, oldest step first.
        report: The HTML report.
    """

    run_dir: Path
    outcome: Outcome
    reason: str | None
    attempts: int
    steps: int
    parameters: int
    seconds: float
    loss_before: float
    loss_after: float
    loss_best: float
    sample: str
    publish_p50_us: float
    publish_p99_us: float
    publish_samples: int
    published: int
    journalled: int
    dropped: int
    decisions: tuple[DecisionTaken, ...]
    checkpoints: tuple[Path, ...]
    report: Path

    @property
    def bits_per_byte(self) -> float:
        """The last validation loss in bits."""
        return self.loss_after / math.log(2)


def summarize(run: Run, trainer: Trainer, *, sample: str, report: Path) -> DemoSummary:
    """Gathers the summary of a closed run."""
    journal = JournalReader(run.dir)
    attempt = journal.attempts[-1]
    statistics = run.statistics()
    losses = list(evaluations(trainer.state).values())
    return DemoSummary(
        run_dir=run.dir,
        outcome=attempt.outcome or "crashed",
        reason=attempt.reason,
        attempts=len(journal.attempts),
        steps=trainer.state.global_step,
        parameters=sum(each.numel() for each in trainer.model.parameters()),
        seconds=(attempt.ended or attempt.started) - attempt.started,
        loss_before=losses[0],
        loss_after=losses[-1],
        loss_best=min(losses, key=_or_infinity),
        sample=sample,
        publish_p50_us=statistics.publish_p50_us,
        publish_p99_us=statistics.publish_p99_us,
        publish_samples=statistics.publish_samples,
        published=statistics.published,
        journalled=statistics.journalled,
        dropped=statistics.dropped_count,
        decisions=tuple(_decisions(journal)),
        checkpoints=tuple(find_checkpoints(run.dir / CHECKPOINTS)),
        report=report,
    )


def _or_infinity(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def print_summary(summary: DemoSummary, console: Console) -> None:
    """Prints a summary for people, on a terminal or to a file."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(summary):
        table.add_row(name, Text(text))
    sample = Panel(Text(summary.sample), title="what it writes now", border_style="dim")
    title = f"{summary.run_dir.name}: {summary.outcome}"
    console.print(Panel(Group(table, Text(), sample), title=title, expand=False))


def _rows(summary: DemoSummary) -> list[tuple[str, str]]:
    reason = [] if summary.reason is None else [("why", summary.reason)]
    counted, *latest = _decision_lines(summary.decisions)
    return [
        ("run", str(summary.run_dir)),
        ("ended", _ending(summary)),
        *reason,
        ("model", f"{summary.parameters:,} parameters"),
        ("validation loss", _learned(summary)),
        ("run.log", _cost(summary)),
        ("events", _account(summary)),
        ("decisions", counted),
        *(("", line) for line in latest),
        ("checkpoints", ", ".join(path.name for path in summary.checkpoints)),
        ("report", str(summary.report)),
    ]


def _ending(summary: DemoSummary) -> str:
    return (
        f"{summary.outcome} after {summary.steps:,} steps, attempt {summary.attempts}, "
        f"{duration(summary.seconds)}"
    )


def _learned(summary: DemoSummary) -> str:
    return (
        f"{summary.loss_before:.3f} → {summary.loss_after:.3f} nats per byte "
        f"({summary.bits_per_byte:.3f} bits), best {summary.loss_best:.3f}"
    )


def _cost(summary: DemoSummary) -> str:
    return (
        f"p50 {summary.publish_p50_us:.1f} µs, p99 {summary.publish_p99_us:.1f} µs "
        f"on the training thread ({summary.publish_samples:,} calls timed)"
    )


def _account(summary: DemoSummary) -> str:
    return (
        f"{summary.published:,} published, {summary.journalled:,} journalled, "
        f"{summary.dropped:,} dropped"
    )


def _decisions(journal: JournalReader) -> Iterable[DecisionTaken]:
    for record in journal.records(types=(DecisionApplied,)):
        if isinstance(event := record.event, DecisionApplied):
            yield DecisionTaken(event.step or 0, str(event.request["type"]), event.by, event.reason)


def _decision_lines(decisions: tuple[DecisionTaken, ...]) -> list[str]:
    """How many of each kind, then the latest ones in full."""
    if not decisions:
        return ["none"]
    kinds = Counter((each.request, each.by) for each in decisions)
    counted = ", ".join(f"{count} x {what} by {who}" for (what, who), count in kinds.items())
    latest = [
        f"step {each.step:,}: {each.request} by {each.by}: {each.reason}"
        for each in decisions[-_DECISIONS_SHOWN:]
    ]
    return [counted, *latest]
