"""From blocks to the printed result: percentiles and ratios to ours."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.peers._machine import Machine
from benchmarks.peers._method import METHOD
from benchmarks.peers._records import EMPTY, OURS, PEERS, Block, Failure, Outcome, Peer, Plan

Mode = Literal["paced", "flooded"]


class Percentiles(BaseModel):
    """Microseconds on the publishing thread, over so many calls."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    calls: int
    p50: float
    p99: float
    max: float


class Row(BaseModel):
    """One peer over all its blocks, or the reason why it has no numbers.

    Attributes:
        closing: Seconds of the longest close; None if one was given up.
        kept: Calls stored, over blocks where that could be counted; None if none could.
        asked: Calls made in those blocks.
        work: Mean microseconds of the torch work before a paced call.
        failures: Reasons of the blocks that failed.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str | None
    paced: Percentiles | None
    flooded: Percentiles | None
    closing: float | None
    kept: int | None
    asked: int
    work: float | None
    failures: tuple[str, ...]


class Spread(BaseModel):
    """How far equal blocks of ours differ: lowest and highest block over the whole row."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    p50: tuple[float, float]
    p99: tuple[float, float]


class Report(BaseModel):
    """Everything `results.json` holds; times in microseconds unless the name says otherwise."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    machine: Machine
    plan: Plan
    rounds: int
    rows: tuple[Row, ...]
    spreads: tuple[Spread, ...]


def percentiles(nanoseconds: Sequence[int]) -> Percentiles:
    """Summarise at least one call by nearest rank."""
    ordered = sorted(nanoseconds)
    count = len(ordered)
    return Percentiles(
        calls=count,
        p50=ordered[math.ceil(count * 0.50) - 1] / 1e3,
        p99=ordered[math.ceil(count * 0.99) - 1] / 1e3,
        max=ordered[-1] / 1e3,
    )


def build(machine: Machine, plan: Plan, rounds: int, outcomes: Sequence[Outcome]) -> Report:
    """Pool the blocks of each peer; a peer with no outcome has no row."""
    asked = [peer for peer in PEERS if any(outcome.peer is peer for outcome in outcomes)]
    ours = _blocks(OURS, outcomes)
    return Report(
        machine=machine,
        plan=plan,
        rounds=rounds,
        rows=tuple(_row(peer, outcomes) for peer in asked),
        spreads=(_spread("paced", ours), _spread("flooded", ours)) if ours else (),
    )


def _blocks(peer: Peer, outcomes: Iterable[Outcome]) -> list[Block]:
    return [
        outcome.block
        for outcome in outcomes
        if outcome.peer is peer and isinstance(outcome.block, Block)
    ]


def _row(peer: Peer, outcomes: Sequence[Outcome]) -> Row:
    blocks = _blocks(peer, outcomes)
    failures = [
        outcome.block.reason
        for outcome in outcomes
        if outcome.peer is peer and isinstance(outcome.block, Failure)
    ]
    counted = [block for block in blocks if block.kept is not None]
    closings = [block.closing for block in blocks if block.closing is not None]
    worked = [nanoseconds for block in blocks for nanoseconds in block.worked]
    return Row(
        name=peer.name,
        version=blocks[0].version if blocks else None,
        paced=_pooled(blocks, "paced"),
        flooded=_pooled(blocks, "flooded"),
        closing=max(closings) if closings and len(closings) == len(blocks) else None,
        kept=sum(block.kept or 0 for block in counted) if counted else None,
        asked=sum(block.asked for block in counted or blocks),
        work=sum(worked) / len(worked) / 1e3 if worked else None,
        failures=tuple(failures),
    )


def _calls(block: Block, mode: Mode) -> list[int]:
    return block.paced if mode == "paced" else block.flooded


def _pooled(blocks: Sequence[Block], mode: Mode) -> Percentiles | None:
    calls = [nanoseconds for block in blocks for nanoseconds in _calls(block, mode)]
    return percentiles(calls) if calls else None


def _spread(mode: Mode, blocks: Sequence[Block]) -> Spread:
    whole = percentiles([nanoseconds for block in blocks for nanoseconds in _calls(block, mode)])
    each = [percentiles(_calls(block, mode)) for block in blocks]
    p50 = [one.p50 / whole.p50 for one in each]
    p99 = [one.p99 / whole.p99 for one in each]
    return Spread(mode=mode, p50=(min(p50), max(p50)), p99=(min(p99), max(p99)))


def render(report: Report) -> str:
    """Write the report as Markdown."""
    rows = {row.name: row for row in report.rows}
    parts = [
        "# The cost of logging six numbers, ours and peers\n",
        _machine(report.machine),
        _latencies(report, "paced", rows.get(OURS.name)),
        _latencies(report, "flooded", rows.get(OURS.name)),
        _aftermath(report, rows.get(EMPTY.name)),
        _failures(report),
        _method(report),
    ]
    return "\n".join(part for part in parts if part)


def _method(report: Report) -> str:
    plan = report.plan
    text = METHOD.format(
        **{**plan.model_dump(), "period": plan.period * 1e3},
        rounds=report.rounds,
        repeats=OURS.repeats,
    )
    paragraphs = (textwrap.fill(part, 96, break_on_hyphens=False) for part in text.split("\n\n"))
    return "## Method\n\n" + "\n\n".join(paragraphs) + "\n"


def _machine(machine: Machine) -> str:
    return (
        f"{machine.date}; {machine.cores} cores of {machine.processor}, {machine.memory_gib} GiB, "
        f"{machine.system}, {machine.filesystem}; Python {machine.python}, torch {machine.torch}; "
        f"{machine.disturbed} of {machine.blocks} blocks began or ended with others at work.\n"
    )


def _latencies(report: Report, mode: Mode, ours: Row | None) -> str:
    base = _of(ours, mode)
    lines = [
        f"## {mode.capitalize()}: microseconds per call on the publishing thread\n",
        "| | version | calls | p50 | p99 | max | p50 / ours | p99 / ours |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        *(_latency(row, _of(row, mode), base) for row in report.rows),
        "",
        *(_spread_line(spread) for spread in report.spreads if spread.mode == mode),
    ]
    return "\n".join(lines) + "\n"


def _of(row: Row | None, mode: Mode) -> Percentiles | None:
    if row is None:
        return None
    return row.paced if mode == "paced" else row.flooded


def _latency(row: Row, seen: Percentiles | None, base: Percentiles | None) -> str:
    if seen is None:
        return f"| {row.name} | | 0 | failed, see below | | | | |"
    p50 = f"{seen.p50 / base.p50:.2f}" if base else ""
    p99 = f"{seen.p99 / base.p99:.2f}" if base else ""
    version = row.version or ""
    return (
        f"| {row.name} | {version} | {seen.calls:,} | {seen.p50:.1f} | {seen.p99:.1f} "
        f"| {seen.max:,.0f} | {p50} | {p99} |"
    )


def _spread_line(spread: Spread) -> str:
    p50, p99 = spread.p50, spread.p99
    return (
        f"A/A: equal blocks of {OURS.name} lie between {p50[0]:.2f} and {p50[1]:.2f} times "
        f"its p50, between {p99[0]:.2f} and {p99[1]:.2f} times its p99."
    )


def _aftermath(report: Report, empty: Row | None) -> str:
    base = empty.work if empty else None
    lines = [
        "## Beside and after the calls\n",
        "| | kept | longest close, s | work, us |",
        "|---|--:|--:|--:|",
        *(_after(row, base, report.plan) for row in report.rows if row.paced),
    ]
    return "\n".join(lines) + "\n"


def _after(row: Row, base: float | None, plan: Plan) -> str:
    kept = "not counted" if row.kept is None else f"{row.kept:,} of {row.asked:,}"
    given_up = f"more than {plan.close_budget:g}"
    closing = given_up if row.closing is None else f"{row.closing:.2f}"
    work = f"{row.work - base:+.0f}" if row.work is not None and base is not None else ""
    return f"| {row.name} | {kept} | {closing} | {work} |"


def _failures(report: Report) -> str:
    lines = [
        f"- {row.name}, {row.failures.count(reason)} times: {reason}"
        for row in report.rows
        for reason in dict.fromkeys(row.failures)
    ]
    return "\n".join(("## Blocks without numbers\n", *lines)) + "\n" if lines else ""
