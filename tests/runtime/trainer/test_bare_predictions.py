"""Models that return a tensor and nothing else, and somebody else makes the loss of it."""

import torch
from torch.nn import functional

from runtime import Trainer, TrainingArguments


def cross_entropy(outputs, labels, num_items_in_batch):  # noqa: ARG001 - the trainer's signature
    return functional.cross_entropy(outputs, labels)


class OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ARG002
        outputs = model(inputs["input"])
        loss = functional.cross_entropy(outputs, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


def accuracies(kind, data, folder, **options):
    """Evaluate a classifier that is always right; tell the accuracy and what was predicted."""
    model = torch.nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    args = TrainingArguments(
        output_dir=str(folder), use_cpu=True, disable_tqdm=True, label_names=["labels"]
    )
    seen = []

    def accuracy(prediction):
        seen.append(prediction.predictions.shape)
        return {"right": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    with kind(model, args, eval_dataset=data, compute_metrics=accuracy, **options) as trainer:
        return trainer.evaluate()["eval_right"], seen


class TestBareTensors:
    labels = torch.arange(20) % 3

    def test_are_predictions_of_a_loss_function(self, tmp_path):
        """All of them, the first sample of each batch and the last batch included."""
        data = list(zip(torch.eye(3)[self.labels], self.labels, strict=True))
        found = accuracies(Trainer, data, tmp_path, compute_loss_func=cross_entropy)
        assert found == (1.0, [(20, 3)])

    def test_are_predictions_of_an_overridden_loss(self, tmp_path):
        """Without a dictionary around them."""
        rows = zip(torch.eye(3)[self.labels], self.labels, strict=True)
        data = [{"input": row, "labels": label} for row, label in rows]
        assert accuracies(OwnLoss, data, tmp_path) == (1.0, [(20, 3)])
