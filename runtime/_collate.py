"""Makes a batch of samples: by key for mappings and objects, torch's way for everything else."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import (
    default_collate,  # pyright: ignore[reportUnknownVariableType] - torch leaves it untyped
)

log = logging.getLogger("runtime")

Collator = Callable[[list[Any]], Any]


def default_data_collator(features: Sequence[Any]) -> Any:  # noqa: ANN401 - mappings or tuples
    """Make a batch of samples.

    Samples that are mappings, dataclasses or plain objects become a dictionary: each key's values
    are stacked (tensors, arrays) or made a tensor (numbers, lists of equal length); `label` and
    `label_ids` become `labels`, integers as int64 and all else as float32; strings and None are
    left out. The first sample says which keys there are. Anything else, such as tuples of
    tensors, is batched by `torch.utils.data.default_collate`.

    Args:
        features: The samples; at least one.

    Raises:
        ValueError: The samples' values under a key cannot be one tensor, or a sample lacks a key
            that the first one has.
    """
    first = features[0]
    if isinstance(first, Mapping):
        return _by_key(cast("Sequence[Mapping[str, Any]]", features))
    if _has_fields(first):
        return _by_key([cast("dict[str, Any]", vars(feature)) for feature in features])
    try:
        return default_collate(list(features))
    except (TypeError, RuntimeError) as error:
        kinds = ", ".join(dict.fromkeys(_described(feature) for feature in features))
        raise ValueError(
            f"samples cannot be made a batch ({error}); they are: {kinds}. Make them numbers, "
            "tensors of one shape, or tuples or dictionaries of these, or pass a data_collator"
        ) from error


def _has_fields(sample: object) -> bool:
    """Whether it is an object whose attributes are the sample, rather than a value itself."""
    if dataclasses.is_dataclass(sample):
        return True
    values = (torch.Tensor, np.ndarray, np.generic, tuple, list, str, bytes, int, float, complex)
    return not isinstance(sample, values) and hasattr(sample, "__dict__")


def _by_key(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {}
    first = samples[0]
    if first.get("label") is not None:
        batch["labels"] = _labels("label", samples)
    elif first.get("label_ids") is not None:
        batch["labels"] = _labels("label_ids", samples)
    for key, value in first.items():
        if key not in {"label", "label_ids"} and value is not None and not isinstance(value, str):
            batch[key] = _values(key, samples)
    return batch


def _labels(key: str, samples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    label = samples[0][key]
    if isinstance(label, torch.Tensor):
        stacked = _values(key, samples)
        if key == "label_ids" or label.numel() > 1:
            return stacked
        return stacked.reshape(-1).to(torch.float if label.is_floating_point() else torch.long)
    sample = label[0] if key == "label_ids" else label
    integers = isinstance(sample, (int, np.integer))
    return _values(key, samples, torch.long if integers else torch.float)


def _values(
    key: str, samples: Sequence[Mapping[str, Any]], dtype: torch.dtype | None = None
) -> torch.Tensor:
    """The values of one key as a tensor."""
    try:
        values = [sample[key] for sample in samples]
    except KeyError:
        lacking = next(index for index, sample in enumerate(samples) if key not in sample)
        raise ValueError(
            f"sample {lacking} of a batch has no {key!r}, which sample 0 has; give all samples "
            "the same keys or pass a data_collator"
        ) from None
    try:
        if dtype is None and isinstance(values[0], torch.Tensor):
            return torch.stack(values)
        if dtype is None and isinstance(values[0], np.ndarray):
            return torch.from_numpy(np.stack(values))  # pyright: ignore[reportUnknownMemberType] - torch
        return torch.tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        kinds = ", ".join(dict.fromkeys(_described(value) for value in values))
        raise ValueError(
            f"the values of {key!r} cannot be one tensor ({error}); they are: {kinds}. Make them "
            "of one shape, or pass a data_collator that pads them or leaves them out"
        ) from error


def _described(value: object) -> str:
    name = type(value).__name__
    shape: object = getattr(value, "shape", None)
    if shape is not None:
        return f"{name} of shape {tuple(cast('Sequence[int]', shape))}"
    return f"{name} of length {len(value)}" if isinstance(value, Sized) else name


class KeepColumns:
    """A collator that first drops what the model's `forward` does not take from dictionaries.

    Args:
        collator: Makes the batch of what is left.
        columns: The keys to keep.
        model: The model's class name, for messages.
    """

    def __init__(self, collator: Collator, columns: Sequence[str], model: str) -> None:
        self._collator = collator
        self._columns = frozenset(columns)
        self._model = model
        self._told = False

    def __call__(self, features: list[Any]) -> Any:  # noqa: ANN401 - what the collator makes
        """Make a batch.

        Raises:
            ValueError: Nothing is left of a sample.
        """
        fits: Callable[[Any], bool] = self._columns.issuperset
        return self._collator(
            [each if type(each) is dict and fits(each) else self._kept(each) for each in features]
        )

    def _kept(self, feature: Any) -> Any:  # noqa: ANN401 - samples of any kind
        if not isinstance(feature, dict):
            return feature
        sample = cast("dict[str, Any]", feature)
        if self._columns.issuperset(sample):
            return sample
        kept = {key: value for key, value in sample.items() if key in self._columns}
        dropped = ", ".join(str(key) for key in sample if key not in kept)
        if not kept:
            raise ValueError(no_column_left(self._model, dropped, self._columns))
        if not self._told:
            self._told = True
            log.info("%s.forward does not take and so is not given: %s", self._model, dropped)
        return kept


def no_column_left(model: str, dropped: str, columns: Sequence[str] | frozenset[str]) -> str:
    """The message of the error that no column is of use to the model."""
    return (
        f"no column of the data ({dropped}) is an argument of {model}.forward or a label "
        f"({', '.join(sorted(columns))}); rename the columns, or set remove_unused_columns=False "
        "to pass them all"
    )
