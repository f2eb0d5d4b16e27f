"""The demo from beginning to end: prepare, train, say what came of it."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from rich.console import Console

from bus import TextLogged, find_run
from runtime import TRAINER_STATE_NAME, Run, TrainerState, TrainingArguments
from runtime._checkpoint_files import checkpoint_step
from runtime._checkpoint_load import last_good_checkpoint
from runtime.demo._errors import DeviceUnusableError, NothingToResumeError
from runtime.demo._options import DemoOptions, Recipe
from runtime.demo._subscribers import attach_subscribers
from runtime.demo._summary import CHECKPOINTS, DemoSummary, print_summary, summarize
from runtime.demo._trainer import Crash, evaluations, make_model, make_trainer, sample
from runtime.report import write_report

_SECONDS_BETWEEN_LINES: Final = 5.0

_FINAL_SAMPLE: Final = 4
"""How many times as long as the samples on the way the last one is."""

_RECIPE: Final = "recipe.json"
"""Beside the checkpoints, so that a resume follows it."""


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
    _check_device(options.device)
    start = _to_resume(options) if options.resume else _Start(options.recipe())
    recipe, model = start.recipe, make_model(start.recipe)
    parameters = sum(each.numel() for each in model.parameters())
    with (
        _threads(recipe.threads),
        Run(
            name=options.name,
            dir=options.dir,
            config={**recipe.model_dump(), "parameters": parameters},
            resume=start.run_dir,
            from_step=start.step,
        ) as run,
    ):
        if options.progress:
            run.console(interval=_SECONDS_BETWEEN_LINES, file=console.file)
        run.define_metric("loss", unit="nats per byte", goal="minimize")
        with make_trainer(
            recipe,
            model,
            run,
            _write_recipe(recipe, run),
            use_cpu=torch.device(options.device).type == "cpu",
            resumed=start.checkpoint is not None,
            crash=_crash(options.crash_at, run, console),
        ) as trainer:
            attach_subscribers(run, patience=recipe.patience, evaluations=start.evaluations)
            trainer.train(resume_from_checkpoint=start.checkpoint)
            step, length = trainer.state.global_step, _FINAL_SAMPLE * recipe.sample_length
            text = sample(trainer.model, length=length, seed=recipe.seed + step)
            run.publish(TextLogged(key="sample", text=text, step=step))

    report = write_report(run.dir)
    summary = summarize(run, trainer, sample=text, report=report)
    print_summary(summary, console)
    return summary


@contextlib.contextmanager
def _threads(count: int) -> Generator[None]:
    """Lets torch use so many threads of the CPU meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _crash(before: int | None, run: Run, console: Console) -> Crash | None:
    def farewell(step: int) -> None:
        run.end_console()
        console.print(f"killed before step {step}, as asked; go on with --resume")

    return None if before is None else Crash(before, farewell)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where training begins: anew, or at the last checkpoint of a run."""

    recipe: Recipe
    run_dir: Path | None = None
    checkpoint: Path | None = None

    @property
    def step(self) -> int | None:
        """Steps taken already; None for a new run."""
        return None if self.checkpoint is None else checkpoint_step(self.checkpoint)

    @property
    def evaluations(self) -> dict[int, float]:
        """The validation loss by step so far."""
        if self.checkpoint is None:
            return {}
        return evaluations(TrainerState.load_from_json(self.checkpoint / TRAINER_STATE_NAME))


def _to_resume(options: DemoOptions) -> _Start:
    run_dir = find_run(options.name, options.dir)
    if run_dir is None:
        raise NothingToResumeError(options.dir, f"there is no run named {options.name!r}")
    folder = run_dir / CHECKPOINTS
    checkpoint = last_good_checkpoint(folder)
    if checkpoint is None:
        raise NothingToResumeError(run_dir, "it has no checkpoint; start anew without resuming")
    text = (folder / _RECIPE).read_text(encoding="utf-8")
    recipe = options.recipe(Recipe.model_validate_json(text))
    if checkpoint_step(checkpoint) >= recipe.steps:
        why = f"all of its {recipe.steps} steps are taken; ask for more steps or start anew"
        raise NothingToResumeError(run_dir, why)
    return _Start(recipe, run_dir, checkpoint)


def _write_recipe(recipe: Recipe, run: Run) -> Path:
    """Note the recipe in the folder of checkpoints, and return that."""
    folder = run.dir / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    (folder / _RECIPE).write_text(recipe.model_dump_json(indent=2), encoding="utf-8")
    return folder


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise DeviceUnusableError(device, str(error).splitlines()[0]) from error
    wanted = torch.device(device)
    own = TrainingArguments(use_cpu=wanted.type == "cpu").device
    if wanted.type != own.type or wanted.index not in (None, own.index):
        raise DeviceUnusableError(device, f"the trainer uses {own} here")
