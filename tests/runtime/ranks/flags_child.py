"""One rank of a job in which a callback asks for something on rank 1 alone, flag by flag.

Upstream's trainer hangs at each of these: its ranks wait for each other in different collectives.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import torch

import runtime

FOLDER = Path(sys.argv[1])
FLAGS = (
    "should_training_stop",
    "should_epoch_stop",
    "should_save",
    "should_evaluate",
    "should_log",
)


EPOCHS = 30


class OnOneRank(runtime.TrainerCallback):
    """Sets a flag at step 3, on rank 1 alone, and notes what its own rank does."""

    def __init__(self, flag: str) -> None:
        self.flag = flag
        self.did: list[tuple[str, int]] = []

    def on_step_end(self, args, state, control, **_):
        if args.process_index == 1 and state.global_step == 3:
            setattr(control, self.flag, True)

    def on_save(self, _args, state, _control, **_):
        self.did.append(("save", state.global_step))

    def on_evaluate(self, _args, state, _control, **_):
        self.did.append(("evaluate", state.global_step))

    def on_log(self, _args, state, _control, **_):
        self.did.append(("log", state.global_step))

    def on_epoch_end(self, _args, state, _control, **_):
        self.did.append(("epoch", state.global_step))


class Everywhere(OnOneRank):
    """Sets it on every rank at step 3, and says that it does."""

    rank_consistent = True

    def on_step_end(self, _args, state, control, **_):
        if state.global_step == 3:
            setattr(control, self.flag, True)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x).squeeze(1) - labels).square().mean()}


def train(callback: OnOneRank, name: str) -> dict[str, object]:
    data = [{"x": torch.ones(4) * i, "labels": torch.tensor(float(i))} for i in range(32)]
    args = runtime.TrainingArguments(
        output_dir=str(FOLDER / name),
        use_cpu=True,
        per_device_train_batch_size=2,
        num_train_epochs=EPOCHS,
        learning_rate=1e-4,
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = runtime.Trainer(
        Model(), args, train_dataset=data, eval_dataset=data[:5], callbacks=[callback]
    )
    with trainer:
        trainer.train()
    return {"steps": trainer.state.global_step, "did": callback.did}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    seen = {}
    for flag in FLAGS:
        seen[flag] = train(OnOneRank(flag), flag)
    seen["at once"] = train(Everywhere("should_save"), "at-once")
    (FOLDER / f"rank{os.environ['RANK']}.json").write_text(json.dumps(seen))
