"""What cannot work between a trainer's arguments, data and functions, found before any step."""

import inspect
from typing import TYPE_CHECKING

from runtime._dataset_checks import check_datasets
from runtime._hub import HubClient
from runtime._optimizer_checks import check_optimizers
from runtime._signatures import cannot_bind
from runtime._world import World

if TYPE_CHECKING:
    from runtime._trainer import Trainer


def check_trainer(trainer: "Trainer") -> None:
    """Refuse what would fail later.

    Raises:
        ValueError: Naming what does not go together and what to change.
        TypeError: Something is of a kind that cannot be used.
        RuntimeError: An optimizer was given for a model that does not exist yet.
        ImportError: The client of the hub to push to is not installed.
    """
    check_datasets(trainer)
    _check_functions(trainer)
    _check_metrics(trainer)
    check_optimizers(trainer)
    _check_ranks(trainer)
    if trainer.args.push_to_hub and trainer.is_world_process_zero():
        HubClient(trainer.args.hub_token)  # fails without its package or a token


def _check_ranks(trainer: "Trainer") -> None:
    world = World.here()
    if trainer.args.auto_find_batch_size and not world.alone:
        raise ValueError(
            f"auto_find_batch_size=True works in one process, and {world.size} train together: "
            "each could find another size; set per_device_train_batch_size to one that fits"
        )


def _check_metrics(trainer: "Trainer") -> None:
    args, metrics = trainer.args, trainer.compute_metrics
    wants_best = args.save_strategy == "best" or args.load_best_model_at_end
    if wants_best and args.metric_for_best_model is None:
        best = args.load_best_model_at_end
        asked = "load_best_model_at_end=True" if best else 'save_strategy="best"'
        raise ValueError(
            f"{asked} needs to know which metric is best; set metric_for_best_model, "
            'for example to "loss"'
        )
    if args.batch_eval_metrics and metrics is not None:
        parameters = inspect.signature(metrics).parameters
        if "compute_result" not in parameters:
            raise ValueError(
                "batch_eval_metrics=True calls compute_metrics for each batch and at the end with "
                "compute_result=True; give it a parameter compute_result"
            )


def _check_functions(trainer: "Trainer") -> None:
    """Refuse what cannot be called the way it will be."""
    for name, given in (
        ("data_collator", 1),
        ("compute_metrics", None),
        ("compute_loss_func", 2),
        ("preprocess_logits_for_metrics", 2),
    ):
        value: object = getattr(trainer, name)
        if value is None:
            continue
        if not callable(value):
            raise TypeError(
                f"{name}={value!r:.80} is no function; pass one, or an object that can be called"
            )
        by_name = ("num_items_in_batch",) if name == "compute_loss_func" else ()
        fault = None if given is None else cannot_bind(value, given, by_name)
        if fault is not None:
            called = {
                "data_collator": "the list of samples",
                "compute_loss_func": "the outputs, the labels and num_items_in_batch=...",
            }.get(name, "the logits and the labels")
            raise TypeError(
                f"{name} is called with {called}, which it does not take: {fault}; give it these "
                "parameters"
            )
