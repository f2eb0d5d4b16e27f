"""Trains under Transformers' trainer with `BusCallback`, and with its callbacks under ours.

Usage: `python -m tests.vendors.bridges_transformers FOLDER`, with a tracking server named in the
environment. Each part leaves a file; see `bridges_parts.report`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from bus import Evaluate, Save, SetLearningRate, StepEnded, Stop
from tests.vendors.bridges_parts import ended, journal, register_sinks, report, scalars
from tests.vendors.trainer_parts import import_library, make_dataset, make_model
from tests.vendors.trainer_recorder import Notes, describe_checkpoints, make_recorder, plain

transformers = import_library("transformers")
runtime = import_library("hotloop")

ARGUMENTS: dict[str, Any] = {
    "logging_steps": 1,
    "num_train_epochs": 2,
    "save_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "seed": 5,
}


def make_trainer(library: Any, output: Path, callbacks: list[Any], **given: Any) -> Any:
    """A trainer of a small model."""
    return library.Trainer(
        make_model(given.pop("model", "classifier")),
        library.TrainingArguments(output_dir=str(output), **{**ARGUMENTS, **given}),
        train_dataset=make_dataset("map", 40),
        eval_dataset=make_dataset("map", 20),
        callbacks=callbacks,
    )


def bridged(folder: Path) -> dict[str, Any]:
    """Train under their own callback for TensorBoard, under ours, stopped and resumed."""
    from runtime.bridges.transformers import BusCallback  # noqa: PLC0415 - behind Transformers

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "theirs")
    theirs = make_trainer(transformers, folder / "a", [], report_to="tensorboard")
    theirs.train()
    del os.environ["TENSORBOARD_LOGGING_DIR"]

    with BusCallback(["tensorboard", "mlflow"], name="whole") as bus:
        whole = make_trainer(transformers, folder / "b", [bus])
        whole.train()
        whole.predict(make_dataset("map", 8))
    with BusCallback(["tensorboard"]) as bus:
        first = make_trainer(transformers, folder / "c", [bus])

        @bus.run.decider(StepEnded, deadline=60.0)
        async def ask(event: StepEnded) -> Any:
            asked = {2: Save(), 3: Evaluate(), 7: Stop(reason="seven"), 6: SetLearningRate(value=1)}
            return asked.get(event.step or 0)

        first.train()
        first_dir, first_id = bus.run.dir, bus.run.id
    with BusCallback(["tensorboard"]) as bus:
        second = make_trainer(transformers, folder / "c", [bus])
        second.train(resume_from_checkpoint=str(folder / "c" / "checkpoint-4"))
        same = (bus.run.dir, bus.run.id, bus.run.attempt) == (first_dir, first_id, 2)
    return {
        "theirs": scalars(folder / "theirs"),
        "ours": scalars(folder / "b" / "runs" / "whole" / "tensorboard"),
        "history": [plain(each) for each in whole.state.log_history],
        "whole": journal(folder / "b" / "runs" / "whole"),
        "stopped_at": first.state.global_step,
        "checkpoints": sorted(path.name for path in (folder / "c").glob("checkpoint-*")),
        "rate": first.optimizer.param_groups[0]["lr"],
        "same": same,
        "resumed": journal(first_dir),
        "ended": ended(first_dir),
        "resumed_scalars": scalars(first_dir / "tensorboard")["train/loss"],
    }


def failing(folder: Path) -> dict[str, Any]:
    """What becomes of a run whose training an exception ended."""
    from runtime.bridges.transformers import BusCallback  # noqa: PLC0415 - behind Transformers

    found = {}
    for name, inside in (("left", True), ("caught", False)):
        bus = BusCallback()
        trainer = make_trainer(transformers, folder / name, [bus], model="failing")
        try:
            if inside:
                with bus:
                    trainer.train()
            else:
                trainer.train()
        except ArithmeticError:
            bus.close()
        found[name] = journal(bus.run.dir)[-1]
    return found


class Counts(transformers.TrainerCallback, transformers.trainer_callback.ExportableState):  # type: ignore[misc, name-defined]  # Transformers' own
    """Remembers how many steps it has seen, over a resume too."""

    def __init__(self, start: int = 100) -> None:
        self.start = start
        self.seen = 0

    def state(self) -> dict[str, Any]:
        return {"args": {"start": self.start}, "attributes": {"seen": self.seen}}

    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self.seen += 1


class Replaces(transformers.TrainerCallback):  # type: ignore[misc, name-defined]  # Transformers' own
    """Returns a control of its own making instead of changing the one it is given."""

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step != 3:
            return control
        return transformers.TrainerControl(should_evaluate=True, should_save=True)


class Looks(transformers.TrainerCallback):  # type: ignore[misc, name-defined]  # Transformers' own
    """Works with what hooks are given: notes gradients, rates, sizes and names."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    def on_pre_optimizer_step(
        self, args: Any, state: Any, _control: Any, model: Any = None, **_: Any
    ) -> None:
        norm = sum(float(each.grad.abs().sum()) for each in model.parameters())
        self.noted.append([state.global_step, round(norm, 4), args.train_batch_size])

    def on_log(
        self,
        args: Any,
        _state: Any,
        _control: Any,
        logs: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        assert isinstance(logs, dict)
        rate = optimizer.param_groups[0]["lr"]
        is_steps = args.eval_strategy == transformers.IntervalStrategy("steps")
        self.noted.append([is_steps, rate, sorted(logs)])

    def on_evaluate(
        self, _args: Any, state: Any, _control: Any, metrics: Any, eval_dataloader: Any, **_: Any
    ) -> None:
        self.noted.append([sorted(metrics), len(eval_dataloader), state.is_world_process_zero])


def foreign(library: Any, folder: Path) -> dict[str, Any]:
    """Transformers' callbacks under a trainer: control-changing, stateful, raising, theirs."""
    found: dict[str, Any] = {}
    wishes = [
        {"hook": "on_step_begin", "flag": "should_save", "step": 1},
        {"hook": "on_epoch_begin", "flag": "should_log", "nth": 2},
        {"hook": "on_log", "flag": "should_evaluate", "step": 7},
        {"hook": "on_evaluate", "flag": "should_epoch_stop", "step": 7},
    ]
    notes, counts, looks = Notes(wishes), Counts(1), Looks()
    stopping = transformers.EarlyStoppingCallback(early_stopping_patience=3)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    trainer = make_trainer(
        library,
        folder / "out",
        [
            Replaces(),
            counts,
            looks,
            stopping,
            make_recorder(transformers, notes),
            transformers.integrations.TensorBoardCallback(),
        ],
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        save_steps=5,
    )
    trainer.train()
    close(trainer)
    found["flow"] = vars(notes) | {"_calls": None, "wishes": None}
    found["looks"] = looks.noted
    found["scalars"] = sorted(scalars(folder / "tensorboard"))
    found["checkpoints"] = describe_checkpoints(folder / "out")

    again = Counts(1)
    trainer = make_trainer(
        library, folder / "out", [again], restore_callback_states_from_checkpoint=True
    )
    trainer.train(resume_from_checkpoint=str(folder / "out" / "checkpoint-5"))
    (kept,) = (each for each in trainer.callback_handler.callbacks if isinstance(each, Counts))
    found["seen"] = [counts.seen, kept.seen]
    close(trainer)

    notes = Notes([{"hook": "on_step_end", "step": 3, "error": "told to"}])
    trainer = make_trainer(library, folder / "raising", [make_recorder(transformers, notes)])
    try:
        trainer.train()
    except ArithmeticError as error:
        found["raised"] = [str(error), notes.hooks]
    close(trainer)
    return found


def close(trainer: Any) -> None:
    """End what only ours has."""
    if hasattr(trainer, "close"):
        trainer.close()


def main(folder: Path) -> None:
    """Every part after the other."""
    torch.set_num_threads(1)
    register_sinks()
    report(folder, "bridged", bridged(folder / "bridged"))
    report(folder, "failing", failing(folder / "failing"))
    for name, library in (("theirs", transformers), ("ours", runtime)):
        report(folder, name, foreign(library, folder / name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
