"""Keeps what batches gave on their device, and puts it together as numpy arrays in the end.

Nothing is read before `to_host`, so evaluation runs ahead of the device; each batch is copied by
itself and joined on the host, so the device never holds anything twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import torch

PADDING: Final = -100
"""Fills what is shorter than the longest; a label of this value counts for nothing."""

_HELP: Final = "leave it out with ignore_keys, or turn it into tensors of one structure"


class Collected:
    """One kind of value (predictions, labels, inputs) of all batches.

    Args:
        what: The name for error messages.
        joins: Whether batches become one array; otherwise they stay a list.
    """

    def __init__(self, what: str, *, joins: bool = True) -> None:
        self._what = what
        self._joins = joins
        self._pending: list[Any] = []
        self._arrays: list[Any] = []

    def add(self, values: Any) -> None:  # noqa: ANN401 - nested tensors
        """Keep a batch's values; they stay where they are."""
        self._pending.append(values)

    def to_host(self) -> None:
        """Wait for the device and take everything off it."""
        self._arrays += [to_arrays(values, self._what) for values in self._pending]
        self._pending = []

    def own(self) -> list[Any]:
        """What this process has, batch by batch, on the host."""
        self.to_host()
        return self._arrays

    def take_all(self, parts: Sequence[list[Any]]) -> None:
        """Replace it by what all processes have, each of which had a batch of every round."""
        rounds = _rounds(parts)
        if self._joins:
            self._arrays = [batch for each in rounds for batch in each]
        else:
            self._arrays = [_joined(each, self._what) for each in rounds]

    def arrays(self) -> Any:  # noqa: ANN401 - nested arrays
        """The values of all batches as arrays of the structure they came in; None if none came.

        Batches that differ in their second dimension are padded with -100 at its end.

        Raises:
            TypeError: A value is no tensor.
            ValueError: Batches differ in structure or in another dimension.
        """
        self.to_host()
        if not self._arrays:
            return None
        return _joined(self._arrays, self._what) if self._joins else self._arrays


class CollectedLosses:
    """The losses of all batches, for each of their samples.

    Args:
        joins: As in `Collected`.
    """

    def __init__(self, *, joins: bool = True) -> None:
        self._joins = joins
        self._pending: list[tuple[torch.Tensor, int]] = []
        self._arrays: list[np.ndarray[Any, Any]] = []

    def add(self, loss: torch.Tensor, samples: int) -> None:
        """Keep a loss: the mean of so many samples, or one number for each."""
        self._pending.append((loss.detach().reshape(-1), samples))

    def to_host(self) -> None:
        """Wait for the device and take everything off it, in one copy."""
        if not self._pending:
            return
        numbers = _host_array(torch.cat([loss for loss, _ in self._pending]))
        first = 0
        for loss, samples in self._pending:
            own = numbers[first : first + len(loss)]
            self._arrays.append(np.repeat(own, samples) if len(loss) == 1 else own)
            first += len(loss)
        self._pending = []

    def own(self) -> list[np.ndarray[Any, Any]]:
        """As that of `Collected`."""
        self.to_host()
        return self._arrays

    def take_all(self, parts: Sequence[list[np.ndarray[Any, Any]]]) -> None:
        """As that of `Collected`."""
        self._arrays = [np.concatenate(each) for each in _rounds(parts)]

    def arrays(self) -> Any:  # noqa: ANN401 - an array, or a list of them
        """The losses, sample by sample; None if there are none."""
        self.to_host()
        if not self._arrays:
            return None
        return np.concatenate(self._arrays) if self._joins else self._arrays

    def mean(self, *, drops_non_finite: bool) -> float | None:
        """The mean over all samples; None if there are none.

        Args:
            drops_non_finite: Whether samples without a finite loss count for nothing, unless no
                sample has one.
        """
        self.to_host()
        if not self._arrays:
            return None
        numbers = np.concatenate(self._arrays)
        finite = np.isfinite(numbers)
        if drops_non_finite and finite.any():
            numbers = numbers[finite]
        return float(numbers.mean())


def batch_size_of(batch: object) -> int | None:
    """The first dimension of the first tensor in a batch that has one."""
    if isinstance(batch, (torch.Tensor, np.ndarray)):
        shape = cast("Sequence[int]", cast("Any", batch).shape)
        return shape[0] if len(shape) else None
    parts: Sequence[object] = ()
    if isinstance(batch, Mapping):
        parts = list(cast("Mapping[str, object]", batch).values())
    elif isinstance(batch, (tuple, list)):
        parts = cast("Sequence[object]", batch)
    sizes = (batch_size_of(part) for part in parts)
    return next((size for size in sizes if size is not None), None)


def joined_tensors(parts: Sequence[Any], what: str, device: torch.device) -> Any:  # noqa: ANN401 - nested tensors
    """What several processes have of one round, as tensors; `Collected` says how it is joined."""
    return _to_tensors(_joined(list(parts), what), device)


def _to_tensors(values: Any, device: torch.device) -> Any:  # noqa: ANN401 - nested arrays
    if isinstance(values, np.ndarray):
        return torch.as_tensor(cast("Any", values), device=device)
    if isinstance(values, Mapping):
        named = cast("Mapping[str, Any]", values)
        return {name: _to_tensors(value, device) for name, value in named.items()}
    parts = [_to_tensors(value, device) for value in cast("Sequence[Any]", values)]
    return parts if isinstance(values, list) else tuple(parts)


def _rounds(parts: Sequence[list[Any]]) -> list[list[Any]]:
    """The batches of all processes, round by round and in each by rank; the last may be uneven."""
    last = max(map(len, parts), default=0)
    return [[own[each] for own in parts if each < len(own)] for each in range(last)]


def to_arrays(values: Any, what: str) -> Any:  # noqa: ANN401 - nested tensors
    """Nested tensors as arrays on the host; waits for their device.

    Raises:
        TypeError: A value is no tensor.
    """
    if isinstance(values, torch.Tensor):
        return _host_array(values)
    if isinstance(values, np.ndarray):
        return cast("Any", values)
    if isinstance(values, Mapping):
        named = cast("Mapping[str, Any]", values)
        return {name: to_arrays(value, f"{what}[{name!r}]") for name, value in named.items()}
    if isinstance(values, (tuple, list)):
        parts = enumerate(cast("Sequence[Any]", values))
        arrays = [to_arrays(part, f"{what}[{index}]") for index, part in parts]
        return arrays if isinstance(values, list) else tuple(arrays)
    raise TypeError(
        f"{what} of a batch is a {type(values).__name__}, which is no tensor and cannot be put "
        f"together with other batches'; {_HELP}"
    )


def _host_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    held = tensor.detach().cpu()
    if held.dtype == torch.bfloat16:  # numpy has none
        held = held.float()
    return cast("np.ndarray[Any, Any]", held.numpy())


def _joined(batches: list[Any], what: str) -> Any:  # noqa: ANN401 - nested arrays
    first = batches[0]
    shape = _structure(first)
    for index, batch in enumerate(batches):
        if _structure(batch) != shape:
            raise ValueError(
                f"{what} of batch {index} is {_structure(batch)}, that of batch 0 {shape}; "
                "let the model return the same for every batch, or leave it out with ignore_keys"
            )
    if isinstance(first, dict):
        names = cast("dict[str, Any]", first)
        return {
            name: _joined([batch[name] for batch in batches], f"{what}[{name!r}]") for name in names
        }
    if isinstance(first, (tuple, list)):
        columns = [list(column) for column in zip(*batches, strict=True)]
        parts = [_joined(column, f"{what}[{index}]") for index, column in enumerate(columns)]
        return parts if isinstance(first, list) else tuple(parts)
    return _padded_together([np.atleast_1d(batch) for batch in batches], what)


def _structure(value: object) -> str:
    if isinstance(value, dict):
        return f"a dictionary of {', '.join(sorted(map(str, cast('dict[str, Any]', value))))}"
    if isinstance(value, (tuple, list)):
        kind = "list" if isinstance(value, list) else "tuple"
        return f"a {kind} of {len(cast('Sequence[Any]', value))}"
    return f"an array of {max(cast('Any', value).ndim, 1)} dimensions"


def _padded_together(arrays: list[np.ndarray[Any, Any]], what: str) -> np.ndarray[Any, Any]:
    first = arrays[0]
    others = {array.shape[2:] for array in arrays}
    if len(others) > 1:
        raise ValueError(
            f"{what} differ between batches beyond their second dimension: "
            f"{', '.join(map(str, sorted(others)))}; pad them alike in "
            "preprocess_logits_for_metrics, or set eval_do_concat_batches=False"
        )
    if first.ndim == 1 or len({array.shape[1] for array in arrays}) == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    rows = sum(len(array) for array in arrays)
    together = np.full_like(first, PADDING, shape=(rows, width, *first.shape[2:]))
    row = 0
    for array in arrays:
        together[row : row + len(array), : array.shape[1]] = array
        row += len(array)
    return together
