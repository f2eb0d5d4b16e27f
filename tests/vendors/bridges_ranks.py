"""Trains with DDP under Transformers' trainer and in a loop with Accelerate, stopped by one rank.

Usage: `torchrun ... bridges_ranks.py FOLDER`, with a tracking server named in the environment.
"""

import sys
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import torch

from bus import Save, Stop
from runtime.bridges.accelerate import BusTracker
from runtime.bridges.transformers import BusCallback
from tests.vendors.bridges_parts import journal, pause, register_sinks, report, shown
from tests.vendors.trainer_parts import import_library, make_dataset, make_model

transformers = import_library("transformers")


class Asks(transformers.TrainerCallback):  # type: ignore[misc, name-defined]  # Transformers' own
    """Asks on one rank only, as the second does, for a save and then for a stop."""

    def __init__(self, bus: BusCallback) -> None:
        self.bus = bus

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        pause()
        if self.bus.run.rank == 1 and state.global_step == 3:
            self.bus.run.control.request(Save())
        if self.bus.run.rank == 1 and state.global_step == 30:
            self.bus.run.control.request(Stop(reason="the second rank"))


def transformers_with_ddp(folder: Path) -> None:
    """Train until one rank's request stops both."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        run_name="hf",
        max_steps=3000,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    with BusCallback(["mlflow", "tensorboard"]) as bus:
        trainer = transformers.Trainer(
            make_model("classifier"),
            arguments,
            train_dataset=make_dataset("map", 64),
            callbacks=[bus, Asks(bus)],
        )
        trainer.train()
    history = [[each["step"], each["loss"]] for each in trainer.state.log_history if "loss" in each]
    saved = [int(path.name.partition("-")[2]) for path in (folder / "out").glob("checkpoint-*")]
    report(
        folder,
        "transformers",
        {
            "steps": trainer.state.global_step,
            "history": history,
            "saved": saved,
            "journal": journal(bus.run.dir, bus.run.rank),
            "shown": shown(bus.run),
        },
    )


def accelerate_with_ddp(folder: Path) -> None:
    """A loop of one's own, which both ranks leave at the same step."""
    tracker = BusTracker(["mlflow", "tensorboard"], name="loop", dir=folder / "runs")
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("demo", config={"rate": 0.1, "api_key": "secret-0123456789"})
    run = tracker.run
    assert accelerator.get_tracker("hotloop", unwrap=True) is run or run.rank
    model, optimizer, data = accelerator.prepare(
        make_model("classifier"),
        torch.optim.SGD(make_model("classifier").parameters(), lr=0.1),
        torch.utils.data.DataLoader(make_dataset("map", 32), batch_size=8),
    )
    step, saved, logged = 0, [], []
    stop = False
    while not stop and step < 3000:
        for batch in data:
            step += 1
            loss = model(**batch)["loss"]
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            accelerator.log({"loss": loss.detach(), "parts": {"a": step}}, step=step)
            logged.append([step, float(loss.detach())])
            if run.rank == 1 and step in (3, 30):
                run.control.request(Save() if step == 3 else Stop(reason="the second rank"))
            pause()
            decision = run.safe_point(step)
            if decision.save:
                accelerator.save_state(str(folder / f"state-{step}"))
                saved.append(step)
            stop = decision.stop
            if stop:
                break
    if accelerator.is_main_process:
        accelerator.get_tracker("hotloop").log_images({"noise": [np.zeros((4, 4, 3))]}, step=step)
        accelerator.log({"note": "the end"}, step=step)
    accelerator.end_training()
    tracker.finish()
    report(
        folder,
        "accelerate",
        {
            "steps": step,
            "saved": saved,
            "history": logged,
            "journal": journal(run.dir, run.rank),
            "shown": shown(run),
            "states": sorted(path.name for path in folder.glob("state-*")),
        },
    )


def main(folder: Path) -> None:
    """One after the other, in the same processes."""
    torch.set_num_threads(1)
    register_sinks()
    transformers_with_ddp(folder)
    accelerate_with_ddp(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
