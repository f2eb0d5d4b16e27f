"""How long saving holds the training thread, and what steps cost while a checkpoint is written.

Run it as `python benchmarks/checkpoint.py [--quick]`; it writes `results/checkpoint.md`.
Transformers' trainer is measured if HOTLOOP_HF_PYTHON names an interpreter that has it.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence

from _checkpoint_training import Sample
from _child import measure
from _facts import describe, load
from _report import table, verdict, write

NAMES = {
    "ours": "ours, asynchronous",
    "synchronous": "ours, synchronous",
    "torch": "torch.save, one file",
    "upstream": "Transformers' `_save_checkpoint`",
}

METHOD = """\
A stack of linear layers with its AdamW state, {megabytes} MB in float32, trained on one thread of
the CPU; {saves} saves in a process of its own for each kind, and {rounds} rounds in which the kinds
alternate. Dirty pages are written back before each save. *Held* is how long the call takes: the
median of all saves but each process's first, in which our buffers are made and their pages touched
(*first save*), and the range of the rounds' medians, which is what the same thing differs by from
one time to the next. *Complete* is when the files are there; ours are then checksummed (SHA-256),
on the disk (fsync) and renamed, the others are in the page cache and may be lost or half there
after a loss of power.

*Steps while writing* compares the median step while a checkpoint is being written with the median
step before the saves of the same process; the interval is of the rounds. *A/A* is the same ratio of
every second step before the saves to those between.

A second save waits until the first is complete: the interval between saves has to be longer than
*complete*, or training waits for the disk as it would without a thread. One copy of the state is
kept in host memory for it.
"""


def rounds_of(
    kinds: Sequence[str], rounds: int, saves: int, megabytes: int
) -> dict[str, list[Sample]]:
    """Measure the kinds in turn."""
    found: dict[str, list[Sample]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for kind, samples in found.items():
            upstream = kind == "upstream"
            script = "_checkpoint_upstream.py" if upstream else "_checkpoint_case.py"
            python = {"python": os.environ["HOTLOOP_HF_PYTHON"]} if upstream else {}
            said = measure(script, kind, str(megabytes), str(saves), **python)
            samples.append(Sample(**json.loads(said.splitlines()[-1])))
    return found


def row(kind: str, samples: Sequence[Sample], base: float) -> list[str]:
    """Summarize one kind."""
    medians = [statistics.median(each.held[1:]) for each in samples]
    held = statistics.median(medians)
    complete = statistics.median(each for sample in samples for each in sample.written[1:])
    ratios = [ratio(each.during, each.before) for each in samples if each.during]
    return [
        NAMES[kind],
        f"{held * 1e3:,.0f}",
        f"{min(medians) * 1e3:,.0f} to {max(medians) * 1e3:,.0f}",
        f"{statistics.median(each.held[0] for each in samples) * 1e3:,.0f}",
        f"{base / held:.1f} x",
        f"{complete:.2f}",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        if ratios
        else "",
    ]


def ratio(measured: Sequence[float], base: Sequence[float]) -> float:
    """The ratio of two medians."""
    return statistics.median(measured) / statistics.median(base)


def same(samples: Sequence[Sample]) -> str:
    """What steps of one kind differ by among themselves."""
    ratios = [ratio(each.before[1::2], each.before[::2]) for each in samples]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def main() -> None:
    """Measure all kinds and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute; prints, writes not")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds, saves, megabytes = (1, 3, 100) if options.quick else (options.rounds, 4, 500)
    before = load()
    kinds = [kind for kind in NAMES if kind != "upstream" or "HOTLOOP_HF_PYTHON" in os.environ]
    found = rounds_of(kinds, rounds, saves, megabytes)
    base = statistics.median(each for sample in found["torch"] for each in sample.held[1:])
    head = ["kind", "held ms", "range", "first save", "less than torch.save", "complete s"]
    method = METHOD.format(megabytes=megabytes, saves=saves, rounds=rounds).rstrip()
    ours = statistics.median(each for sample in found["ours"] for each in sample.held[1:])
    parts = [
        "# How long a checkpoint holds training",
        f"Goal: held for less time than by `torch.save`: {verdict(ours < base)}.",
        table(
            [*head, "steps while writing"],
            [row(kind, samples, base) for kind, samples in found.items()],
        ),
        f"A/A of the steps: {same(found['ours'])}.",
        "## Method",
        method,
        "\n".join(describe(before)),
    ]
    write("checkpoint", parts, quick=options.quick)


if __name__ == "__main__":
    main()
