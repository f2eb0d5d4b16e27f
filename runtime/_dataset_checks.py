"""What cannot be trained or evaluated on, told apart by what it is; no sample is looked at.

Fetching one would draw random numbers that the order of training depends on.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch.utils.data import DataLoader, IterableDataset

from runtime._choices import IntervalStrategy
from runtime._loaders import has_length

if TYPE_CHECKING:
    from runtime._trainer import Trainer

_NEEDED = (
    "pass samples by index (__getitem__ and __len__, such as a list), or a "
    "torch.utils.data.IterableDataset"
)


def check_datasets(trainer: "Trainer") -> None:
    """Refuse a trainer's datasets if they are none, or do not go with the arguments.

    Raises:
        ValueError: There is nothing to evaluate on or to train on, or no end to it.
        TypeError: Something is no dataset.
    """
    args = trainer.args
    train: object = trainer.train_dataset
    evaluated: object = trainer.eval_dataset
    no_set = evaluated == {}
    if args.eval_strategy != "no" and (evaluated is None or no_set):
        strategy = IntervalStrategy(args.eval_strategy).value
        given = "eval_dataset={} has none" if no_set else "none was given"
        raise ValueError(
            f'eval_strategy="{strategy}" needs data to evaluate on, and {given}; '
            'pass eval_dataset=..., or set eval_strategy="no"'
        )
    if train is not None:
        check_dataset(train, "train_dataset")
        if has_length(train) and len(train) == 0:
            raise ValueError(
                "train_dataset has no samples, so there is nothing to train on; pass one that has"
            )
    if is_named_sets(evaluated):
        for name, each in cast("Mapping[object, object]", evaluated).items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"eval_dataset has the key {name!r}; name each set with a string")
            check_dataset(each, f"eval_dataset[{name!r}]")
    elif evaluated is not None:
        check_dataset(evaluated, "eval_dataset")
    if train is not None and not has_length(train) and args.max_steps < 0:
        raise ValueError(
            f"train_dataset ({type(train).__qualname__}) has no length, so "
            f"num_train_epochs={args.num_train_epochs} does not say when to end; set max_steps"
        )


def is_named_sets(data: object) -> bool:
    """Whether these are several evaluation sets by name."""
    columns: object = getattr(data, "column_names", None)  # a table may be a mapping too
    return isinstance(data, Mapping) and not isinstance(columns, list)


def check_dataset(dataset: object, name: str) -> None:
    """Refuse what has no samples.

    Args:
        dataset: What was given.
        name: As what, for messages.

    Raises:
        TypeError: It is no dataset; the message says what to pass instead.
    """
    reason = _fault(dataset)
    if reason is not None:
        raise TypeError(f"{name} {reason}")


def _fault(dataset: object) -> str | None:
    """What is wrong with it; None if it may be a dataset."""
    if isinstance(dataset, IterableDataset):
        return None
    indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    return _known_mistake(dataset) or (None if indexed else _no_samples(dataset))


def _known_mistake(dataset: object) -> str | None:
    kind = type(dataset).__qualname__
    if isinstance(dataset, type):
        return f"is the class {dataset.__qualname__}; pass an object, {dataset.__qualname__}(...)"
    if isinstance(dataset, (str, bytes)):
        return f"is the {kind} {dataset!r:.80}, which is no data; load it, and {_NEEDED}"
    if isinstance(dataset, DataLoader):
        return (
            "is a DataLoader, which the trainer makes itself; pass its dataset, or override "
            "get_train_dataloader, get_eval_dataloader or get_test_dataloader"
        )
    if is_named_sets(dataset) and 0 not in cast("Mapping[object, object]", dataset):
        names = ", ".join(map(str, cast("Mapping[object, object]", dataset))) or "nothing"
        return (
            f"is a {kind} of {names}, which has no samples by index; pass one of its values, or a "
            "list with a dictionary for each sample"
        )
    return None


def _no_samples(dataset: object) -> str:
    if dataset is None:
        return f"is None; {_NEEDED}"
    kind = type(dataset).__qualname__
    if hasattr(dataset, "__iter__"):
        return f"is a {kind}, which can be iterated but not by index; {_NEEDED}"
    return f"is {dataset!r:.80}, of {kind}; {_NEEDED}"
