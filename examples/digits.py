"""Classifies scikit-learn's images of handwritten digits, and keeps the best classifier.

It evaluates after each epoch, stops when the accuracy no longer improves, ends with the weights of
the best epoch, and writes its metrics as CSV. scikit-learn is needed for the images alone.

    python examples/digits.py
    python examples/digits.py --resume     # go on from the last checkpoint, in the same run
"""

import argparse
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # it ships none
from torch import Tensor, nn
from torch.nn import functional

from runtime import EarlyStoppingCallback, EvalPrediction, Trainer, TrainingArguments

Pixels: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Digits: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]

LEARNED = 1400
"""Images to learn from; the other 397 are to evaluate on."""


class Classifier(nn.Module):
    """Two convolutions over 8 x 8 pixels; returns its loss too if it is told the digits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()
        )
        self.digit = nn.Linear(32 * 3 * 3, 10)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Map images `(batch, 1, 8, 8)` from 0 to 1 to logits `(batch, 10)`."""
        logits: Tensor = self.digit(self.features(images).flatten(1))
        if labels is None:
            return {"logits": logits}
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def samples() -> list[dict[str, Tensor]]:
    """All 1797 images with their digits, one dictionary each, writers mixed."""
    pixels, digits = cast("tuple[Pixels, Digits]", load_digits(return_X_y=True))
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(digits)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return [{"images": images[index], "labels": labels[index]} for index in order]


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The share of images whose most likely digit is the right one."""
    right = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"accuracy": float(right.mean())}


def make_trainer(folder: Path, *, epochs: int = 40) -> Trainer:
    """A trainer of a new classifier, whose checkpoints and run lie in a folder."""
    args = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=128,
        learning_rate=3e-3,
        logging_steps=10,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        report_to=["csv"],
    )
    images = samples()
    return Trainer(
        model_init=Classifier,
        args=args,
        train_dataset=images[:LEARNED],
        eval_dataset=images[LEARNED:],
        compute_metrics=accuracy,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=4)],
    )


def main() -> None:
    """Train, and tell what came of it."""
    parser = argparse.ArgumentParser(description="Classify handwritten digits.")
    parser.add_argument("--folder", type=Path, default=Path("digits"))
    parser.add_argument("--epochs", type=int, default=40, help="at most; fewer if it stops early")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    chosen = parser.parse_args()
    with make_trainer(chosen.folder, epochs=chosen.epochs) as trainer:
        output = trainer.train(resume_from_checkpoint=chosen.resume)
        best = trainer.evaluate()
    state = trainer.state
    print(f"steps          {output.global_step} of at most {state.max_steps}")
    print(f"best accuracy  {best['eval_accuracy']:.1%}, at step {state.best_global_step}")
    print(f"checkpoint     {state.best_model_checkpoint}")
    print(f"metrics        {trainer.run.dir / 'metrics.csv'}")


if __name__ == "__main__":
    main()
