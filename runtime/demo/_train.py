"""The demo from beginning to end: prepare, train, say what came of it."""

import contextlib
import os
import signal
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from bus import CheckpointSaved, Evaluated, TextLogged, find_run
from runtime import Run
from runtime.demo._checkpoint import Checkpoint, checkpoints, forget_old
from runtime.demo._display import ProgressDisplay
from runtime.demo._errors import DeviceUnusableError, NothingToResumeError
from runtime.demo._learner import Learner
from runtime.demo._options import DemoOptions
from runtime.demo._subscribers import attach_subscribers
from runtime.demo._summary import DemoSummary, print_summary, summarize
from runtime.report import write_report

_FINAL_SAMPLE = 4
"""How many times as long as the samples on the way the last one is."""


def run_demo(options: DemoOptions, *, console: Console | None = None) -> DemoSummary:
    """Trains a small language model and shows everything the library does beside it.

    Args:
        options: What was asked for.
        console: Where to print; standard output by default.

    Returns:
        What is also printed: what was learned, what it cost, what was decided.

    Raises:
        DemoError: There is no text to learn, no such device, or nothing to resume.
        ValueError: An option is out of range.
    """
    console = console or Console()
    start = _prepare(options)
    learner = start.learner
    with (
        _threads(learner.recipe.threads),
        ProgressDisplay(console, learner.recipe, enabled=options.progress) as display,
        Run(
            name=options.name,
            dir=options.dir,
            config={**learner.recipe.model_dump(), "parameters": learner.parameters},
            resume=start.run_dir,
            from_step=start.from_step,
        ) as run,
    ):
        display.follow(run)
        run.define_metric("train/loss", unit="nats per byte", goal="minimize")
        if start.from_step is None:
            _evaluate(run, learner)
            _save(run, learner)
        attach_subscribers(run, learner)
        _train(run, learner, display, crash_at=options.crash_at)
        sample = learner.sample(_FINAL_SAMPLE * learner.recipe.sample_length)
        run.publish(TextLogged(key="sample", text=sample, step=learner.step))

    report = write_report(run.dir)
    summary = summarize(run, learner, sample=sample, report=report)
    print_summary(summary, console)
    return summary


def _train(run: Run, learner: Learner, display: ProgressDisplay, *, crash_at: int | None) -> None:
    """The loop. Only an evaluation and a checkpoint make it wait, never what watches it."""
    recipe = learner.recipe
    while learner.step < recipe.steps:
        if learner.step + 1 == crash_at:
            _crash(display, learner.step + 1)

        metrics = learner.learn()
        step = learner.step
        run.log(metrics, step=step)  # tensors as they are; nobody waits for their values here

        due = step % recipe.evaluate_every == 0 or step == recipe.steps
        if due:
            _evaluate(run, learner)  # when this returns its deciders have answered

        decision = run.safe_point(step)
        if decision.evaluate and not due:
            _evaluate(run, learner)
        if decision.save or step % recipe.checkpoint_every == 0 or step == recipe.steps:
            _save(run, learner)
        if decision.stop:
            break


def _evaluate(run: Run, learner: Learner) -> None:
    run.publish(Evaluated(step=learner.step, metrics=learner.evaluate(), dataset="validation"))
    sample = learner.sample(learner.recipe.sample_length)
    run.message(" ".join(sample.split()), step=learner.step)


def _save(run: Run, learner: Learner) -> None:
    step, best_step = learner.step, learner.best_step
    path = learner.checkpoint().save(run.dir)
    forget_old(run.dir, newest=2, best_step=best_step)
    run.publish(CheckpointSaved(step=step, path=str(path)))
    aliases = ("best",) if step == best_step else ()
    run.artifact(path, kind="checkpoint", aliases=aliases, step=step)


@contextlib.contextmanager
def _threads(count: int) -> Generator[None]:
    """Lets torch use so many threads of the CPU meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _crash(display: ProgressDisplay, step: int) -> None:
    """Dies as if the machine had taken the process: no handler, no `finally`, no farewell."""
    display.close()
    display.console.print(f"killed before step {step}, as asked; go on with --resume")
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where training begins: anew, or at the last checkpoint of a run."""

    learner: Learner
    run_dir: Path | None = None
    from_step: int | None = None


def _prepare(options: DemoOptions) -> _Start:
    _check_device(options.device)
    if not options.resume:
        return _Start(Learner(options.recipe(), device=options.device))
    run_dir = find_run(options.name, options.dir)
    if run_dir is None:
        raise NothingToResumeError(options.dir, f"there is no run named {options.name!r}")
    saved = checkpoints(run_dir)
    if not saved:
        raise NothingToResumeError(run_dir, "it has no checkpoint; start anew without resuming")
    checkpoint = Checkpoint.load(saved[-1])
    recipe = options.recipe(checkpoint.recipe)
    if checkpoint.step >= recipe.steps:
        why = f"all of its {recipe.steps} steps are taken; ask for more steps or start anew"
        raise NothingToResumeError(run_dir, why)
    learner = Learner(recipe, device=options.device)
    learner.restore(checkpoint)
    return _Start(learner, run_dir, checkpoint.step)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise DeviceUnusableError(device, str(error).splitlines()[0]) from error
