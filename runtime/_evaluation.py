"""stopgap"""

from dataclasses import dataclass
from typing import Any
import torch
from runtime._outputs import EvalLoopOutput, EvalPrediction


@dataclass
class EvaluationOptions:
    prefix: str
    loss_only: bool
    accumulation_steps: Any
    by_batch: bool
    include: Any
    compute_metrics: Any
    preprocess: Any
    input_name: str


def run_evaluation(loader, step, options, *, after_batch):
    losses, n, preds, labs = [], 0, [], []
    for i, batch in enumerate(loader):
        loss, logits, labels = step(batch)
        size = next(iter(batch.values())).shape[0] if isinstance(batch, dict) else batch[0].shape[0]
        n += size
        if loss is not None:
            losses.append(loss.detach().repeat(size))
        if logits is not None:
            preds.append(logits)
            labs.append(labels)
        after_batch(i)
    metrics = {}
    if options.compute_metrics and preds:
        metrics = options.compute_metrics(
            EvalPrediction(torch.cat(preds).numpy(), torch.cat(labs).numpy())
        )
    if losses:
        metrics = {f"loss": torch.cat(losses).mean().item(), **metrics}
    return EvalLoopOutput(
        None,
        None,
        {
            k if k.startswith(options.prefix + "_") else f"{options.prefix}_{k}": v
            for k, v in metrics.items()
        },
        n,
    )
