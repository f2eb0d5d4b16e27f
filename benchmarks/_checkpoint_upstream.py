"""One case of `checkpoint.py`: saves a state as Transformers' trainer does, amid training steps.

Started by it with an interpreter that has `transformers`, as
`python _checkpoint_upstream.py FOLDER upstream MEGABYTES SAVES`; prints a `Sample`.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _checkpoint_training import WIDTH, measure_saves, take_step, training


class Wrapped(torch.nn.Module):
    """The model with the loss that Transformers' trainer wants."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss and the output."""
        out = self.inner(x)
        return {"loss": out.square().mean(), "logits": out}


def main() -> None:
    """Measure `Trainer._save_checkpoint`."""
    # Not importable where the project is checked; a plain import would be an error there.
    library: Any = __import__("transformers")
    folder, megabytes, saves = Path(sys.argv[1]), *map(int, sys.argv[3:5])
    model, optimizer = training(megabytes)
    arguments = library.TrainingArguments(
        str(folder),
        max_steps=1,
        save_strategy="no",
        save_total_limit=1,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    trainer = library.Trainer(
        Wrapped(model),
        arguments,
        train_dataset=[{"x": torch.ones(WIDTH)}] * 4,
        optimizers=(optimizer, scheduler),
    )
    trainer.remove_callback(library.PrinterCallback)
    trainer.train()

    def save(number: int) -> None:
        trainer.state.global_step = number
        trainer._save_checkpoint(trainer.model, trial=None)  # noqa: SLF001 - what is measured

    measure_saves(megabytes, saves, save, lambda: False, partial(take_step, model, optimizer))


if __name__ == "__main__":
    main()
