"""What cannot work between a trainer's arguments, data and functions, found before any step."""

import inspect
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, cast

from torch.utils.data import IterableDataset

if TYPE_CHECKING:
    from runtime._trainer import Trainer


def check_trainer(trainer: "Trainer") -> None:
    """Refuse what would fail later.

    Raises:
        ValueError: Naming what does not go together and what to change.
        TypeError: Something is of a kind that cannot be used.
        RuntimeError: An optimizer was given for a model that does not exist yet.
    """
    _check_data(trainer)
    _check_metrics(trainer)
    _check_optimizers(trainer)


def _check_data(trainer: "Trainer") -> None:
    args = trainer.args
    if args.eval_strategy != "no" and trainer.eval_dataset is None:
        raise ValueError(
            f'eval_strategy="{args.eval_strategy}" needs data to evaluate on; pass '
            'eval_dataset=..., or set eval_strategy="no"'
        )
    _check_dataset(trainer.train_dataset, "train_dataset")
    sets = trainer.eval_dataset
    if isinstance(sets, Mapping):
        for name, each in cast("Mapping[object, object]", sets).items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"eval_dataset has the key {name!r}; name each set with a string")
            _check_dataset(each, f"eval_dataset[{name!r}]")
    else:
        _check_dataset(sets, "eval_dataset")
    unsized = trainer.train_dataset is not None and not _has_length(trainer.train_dataset)
    if unsized and args.max_steps < 0:
        raise ValueError(
            f"train_dataset ({type(trainer.train_dataset).__qualname__}) has no length, so "
            f"num_train_epochs={args.num_train_epochs} does not say when to end; set max_steps"
        )


def _check_dataset(dataset: object, name: str) -> None:
    if dataset is None or isinstance(dataset, IterableDataset):
        return
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        if len(cast("Sized", dataset)) == 0 and name == "train_dataset":
            raise ValueError("train_dataset has no samples; there is nothing to train on")
        return
    if hasattr(dataset, "__iter__") and not isinstance(dataset, (str, bytes)):
        raise TypeError(
            f"{name} is a {type(dataset).__qualname__}, which can be iterated but is no "
            "torch.utils.data.IterableDataset; derive from that, or give samples by index"
        )
    raise TypeError(
        f"{name} is a {type(dataset).__qualname__}; a dataset has __getitem__ and __len__, or is a "
        "torch.utils.data.IterableDataset"
    )


def _has_length(dataset: object) -> bool:
    try:
        return len(cast("Sized", dataset)) >= 0
    except (TypeError, NotImplementedError):
        return False


def _check_metrics(trainer: "Trainer") -> None:
    args, metrics = trainer.args, trainer.compute_metrics
    wants_best = args.save_strategy == "best" or args.load_best_model_at_end
    if wants_best and args.metric_for_best_model is None:
        asked = "load_best_model_at_end=True" if args.load_best_model_at_end else "save_strategy"
        raise ValueError(
            f"{asked} needs to know which metric is best; set metric_for_best_model, "
            'for example to "loss"'
        )
    for name in ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics"):
        value: object = getattr(trainer, name)
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a function, not {type(value).__qualname__}")
    if args.batch_eval_metrics and metrics is not None:
        parameters = inspect.signature(metrics).parameters
        if "compute_result" not in parameters:
            raise ValueError(
                "batch_eval_metrics=True calls compute_metrics for each batch and at the end with "
                "compute_result=True; give it a parameter compute_result"
            )


def _check_optimizers(trainer: "Trainer") -> None:
    if trainer.model_init is not None and (trainer.optimizer or trainer.lr_scheduler):
        raise RuntimeError(
            "optimizers=... belongs to one model, but model_init makes a new one for each train(); "
            "pass model=... instead, or override create_optimizer_and_scheduler"
        )
    if trainer.optimizer is not None and trainer.optimizer_cls_and_kwargs is not None:
        raise RuntimeError(
            "both optimizers and optimizer_cls_and_kwargs say what to optimize with; pass one"
        )
    if trainer.optimizer is not None:
        own = {id(each) for each in trainer.model.parameters()}
        groups = trainer.optimizer.param_groups
        if not any(id(each) in own for group in groups for each in group["params"]):
            raise ValueError(
                "the optimizer that was passed holds none of the model's parameters, so training "
                "would change nothing; make it with model.parameters(), after moving the model to "
                f"{trainer.args.device}"
            )
