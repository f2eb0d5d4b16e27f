"""Trains the same under Transformers and under ours, in the processes that torchrun has started.

Each goes on from the other's checkpoint too. `<folder>/<name>-<rank>.json` holds what came of it.
"""

import json
import os
import sys
from pathlib import Path

import torch
import transformers

import runtime

LIBRARIES = {"transformers": transformers, "hotloop": runtime}
COUNTED = ("loss", "grad_norm", "learning_rate", "epoch", "step", "num_input_tokens_seen")


class Samples(torch.utils.data.Dataset):
    """Seventeen samples, which no round of two processes divides."""

    def __len__(self):
        return 17

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        x = torch.rand(5, generator=generator)
        return {"x": x, "labels": torch.tensor(index % 3), "index": index}


class Model(torch.nn.Module):
    """One layer; notes what it is trained on."""

    main_input_name = "x"

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(5, 3)
        self.seen = []

    def forward(self, x, labels=None, index=None):
        """Mean cross entropy and the logits."""
        if self.training:
            self.seen.append(index.tolist())
        logits = self.layer(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def metrics(prediction):
    """Two numbers that depend on which samples there are, and in which order."""
    places = range(len(prediction.label_ids))
    return {"order": float((prediction.label_ids * places).sum()), "count": len(places)}


def train(folder, name, library, checkpoint=None):
    """Train, evaluate and predict."""
    args = library.TrainingArguments(
        output_dir=f"{folder}/{name}",
        use_cpu=True,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        logging_steps=1,
        learning_rate=0.1,
        save_steps=2,
        eval_strategy="epoch",
        include_num_input_tokens_seen="all",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    data = Samples()
    trainer = library.Trainer(
        Model(), args, train_dataset=data, eval_dataset=data, compute_metrics=metrics
    )
    output = trainer.train(resume_from_checkpoint=checkpoint)
    history = trainer.state.log_history
    found = {
        "seen": trainer.model.seen,
        "weights": trainer.model.layer.weight.tolist(),
        "logs": [{key: entry[key] for key in COUNTED if key in entry} for entry in history],
        "names": [sorted(entry) for entry in history],
        "orders": [entry["eval_order"] for entry in history if "eval_order" in entry],
        "train_loss": output.training_loss,
        "predictions": trainer.predict(data).predictions.tolist(),
    }
    if library is runtime:
        trainer.close()
    path = Path(folder) / f"{name}-{os.environ['RANK']}.json"
    path.write_text(json.dumps(found))


def main(folder):
    """Train anew under both, then go on from the other's checkpoint."""
    torch.set_num_threads(1)
    for name, library in LIBRARIES.items():
        train(folder, name, library)
    for name, other in (("transformers", "hotloop"), ("hotloop", "transformers")):
        train(folder, f"{name}-resumed", LIBRARIES[name], f"{folder}/{other}/checkpoint-2")


if __name__ == "__main__":
    main(sys.argv[1])
