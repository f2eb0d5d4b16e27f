"""What a trainer adds to a step on a GPU, and what taking values from it costs the training thread.

Run it as `python benchmarks/gpu.py [--quick] [--device cpu]` where transformers, accelerate and
lightning are installed (`make bench-gpu`); it writes `results/gpu.md`. `--quick --device cpu` tries
it all where there is no GPU, on a tiny model; those numbers mean nothing and are not written.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

import torch
from _child import measure
from _facts import describe, load
from _gpu_result import TakingPlan, TakingResult
from _numbers import Percentiles, Ratio
from _report import microseconds, table, verdict, write
from _trainer_result import Contender, Device, Plan, Result
from trainer import NAMES, PEERS, Row

TAKING_GOAL = 20.0
"""Microseconds of the training thread for 64 scalars."""

METHOD = """\
The model is the demo's GPT with {parameters} parameters, in bf16 by autocasting, compiled; fused
AdamW, clipping to a norm of 1, a learning rate that falls linearly, batches of {batch}. Each block
is a training of its own from the same weights: {warm} steps, then {steps} that are timed. The clock
is the model's: from one call of it to another, with the device synchronized at both, and at no
other moment. {blocks} blocks alternate with a base's in one process, another for each row. Every
trainer logs every step: the loss, ours and Transformers' also the norm of the gradients and the
learning rate; the bare loop logs nothing. Lightning's own clipping refuses a fused optimizer under
autocasting, so its module clips as the bare loop does. Sinks: JSON lines, TensorBoard files, and a
web hook on this machine.

*step* is the median over the blocks; *ratio* the median, over the blocks, of their mean step to
that of the base's blocks before and after, with its 95 % interval; *A/A* that interval for the
base's blocks among themselves; *adds* the ratio in time.

Taking: {calls} calls, each timed by itself on the training thread, with the device kept busy by a
matrix product between them and synchronized every 50 calls, outside of the clock.
"""


def plans(device: Device, *, quick: bool) -> Iterator[Plan]:
    """Every trainer beside the bare loop, and ours with sinks beside ours without."""
    contenders: tuple[Contender, ...] = ("hotloop", "sinks", *PEERS)
    bases: list[tuple[Contender, Contender]] = [(each, "bare") for each in contenders]
    for contender, base in [*bases, ("sinks", "hotloop")]:
        yield Plan(
            work="large" if device == "cuda" else "tiny",
            contender=contender,
            base=base,
            every_step=True,
            blocks=2 if quick else 8,
            warm=2 if quick else 20,
            steps=3 if quick else 100,
            device=device,
            bf16=True,
        )


def measure_case(plan: Plan) -> Row:
    """Measure one case in a fresh process."""
    print(f"measuring: {NAMES[plan.contender]} beside {NAMES[plan.base]}", flush=True)
    result = Result.model_validate_json(measure("_trainer_case.py", plan.model_dump_json()))
    return Row(plan, result, Ratio.of(result.measured, result.base))


def measure_taking(device: Device, *, quick: bool) -> TakingResult:
    """What `run.log` of 64 scalars costs, and a check of the loss guard."""
    plan = TakingPlan(device=device, calls=200 if quick else 20_000)
    print("measuring: 64 scalars, and the guard", flush=True)
    return TakingResult.model_validate_json(measure("_gpu_case.py", plan.model_dump_json()))


def taking_rows(result: TakingResult) -> list[list[str]]:
    """One row for each thing that was timed."""
    rows: list[list[str]] = []
    for name, nanoseconds in result.calls.items():
        found = Percentiles.of(nanoseconds)
        goal = verdict(found.p50 <= TAKING_GOAL) if name == "run.log" else ""
        rows.append([name, microseconds(found.p50), microseconds(found.p99), goal])
    return rows


def report(
    rows: Sequence[Row], taking: TakingResult, device: Device, load_before: float
) -> list[str]:
    """Put tables, method and machine together."""
    plan = rows[0].plan
    head = ["trainer", "base", "step, us", "ratio", "A/A", "adds, us"]
    method = METHOD.format(
        parameters=f"{taking.parameters:,}",
        batch=taking.batch,
        warm=plan.warm,
        steps=plan.steps,
        blocks=plan.blocks,
        calls=len(next(iter(taking.calls.values()))),
    )
    where = torch.cuda.get_device_name() if device == "cuda" else "no GPU: a trial of this program"
    libraries = ("transformers", "accelerate", "lightning")
    peers = ", ".join(f"{name} {metadata.version(name)}" for name in libraries)
    return [
        "# On a GPU",
        table(head, [row.cells()[2:8] for row in rows]),
        table(["64 scalars of one dtype", "p50, us", "p99, us", "goal"], taking_rows(taking)),
        "## Method",
        method.rstrip(),
        "\n".join([*describe(load_before), f"- {where}", f"- {peers}"]),
    ]


def main() -> None:
    """Measure the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps; prints, writes not")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    device: Device = options.device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device: run this on a machine with a GPU, or try --quick --device cpu")
    if device == "cpu" and not options.quick:
        sys.exit("on a CPU only a trial is possible: add --quick")
    before = load()
    taking = measure_taking(device, quick=options.quick)
    rows = [measure_case(plan) for plan in plans(device, quick=options.quick)]
    write("gpu", report(rows, taking, device, before), quick=options.quick)


if __name__ == "__main__":
    main()
