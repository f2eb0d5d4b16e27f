"""Sorts what a user hands to `run.log`: host numbers, tensors on a device, and the rest.

Nothing here waits for a device: of tensors on one only the properties are looked at, and scalars
that are alike are packed there.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol, SupportsFloat, TypeAlias, cast

import torch
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor

from bus import is_exact_number, well_formed
from runtime._boxes import is_distributed, replicated_part

Scalar: TypeAlias = "SupportsFloat | torch.Tensor"
"""A Python or numpy number, or a tensor with one element."""

_MEANT: Final = {
    "NoneType": "there is no value",
    "str": "it is a text; use run.message or publish TextLogged",
    "dict": "it is a mapping; flatten it to one number per key",
    "list": "it is a list; log its mean, or publish HistogramLogged",
    "tuple": "it is a tuple; log its mean, or publish HistogramLogged",
    "complex": "a complex number is two; log its parts",
}


_dtype_of: Final["attrgetter[torch.dtype]"] = attrgetter("dtype")
_INEXACT: Final = "the integer is beyond 2**53 and would lose digits"
_PLAIN_NUMBERS: Final = frozenset({float, int})
_PLAIN_TENSORS: Final = (torch.Tensor, torch.nn.Parameter)
_REAL: Final = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool}
    | {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)
"""The types of most losses; the others are looked at more closely."""


LAST_STEP: Final = 2**53
"""Steps beyond it would not survive JSON readers that know only 64-bit floats."""


class _Array(Protocol):
    """The part of numpy's arrays that is used here."""

    @property
    def size(self) -> int: ...
    def item(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Sorted:
    """What was found.

    Attributes:
        host: Numbers that are known now.
        tensors: Detached tensors of one element by key.
        bad: Why each other key cannot be logged.
    """

    host: dict[str, float]
    tensors: dict[str, torch.Tensor]
    bad: dict[str, str]


def made_floats(metrics: dict[str, Any]) -> bool:
    """Turn plain integers among plain floats into floats, in place; tell whether that is all.

    The short way for the most common mixture, such as an epoch beside a loss.
    """
    if not _PLAIN_NUMBERS.issuperset(map(type, metrics.values())):
        return False
    for key, value in metrics.items():
        if type(value) is int:
            if not -LAST_STEP <= value <= LAST_STEP:
                return False
            metrics[key] = float(value)
    return True


def pack_alike(metrics: dict[Any, Any]) -> torch.Tensor | None:
    """Pack scalar tensors that are alike by one kernel; None if they must be sorted first.

    Asking all of them for one property at a time costs a fraction of sorting them one by one, and
    what the packed row shows (shape, layout, device) need not be asked at all.

    Args:
        metrics: Tensors by name; nobody else may change it meanwhile.

    Returns:
        The values of now in the dictionary's order, bit for bit, of shape (len(metrics),).
    """
    values = list(metrics.values())
    if (
        set(map(type, values)) != {torch.Tensor}
        or values[0].dim() != 0
        or set(map(type, metrics)) != {str}
        or not all(map(str.isascii, metrics))
    ):
        return None
    dtypes = set(map(_dtype_of, values))
    if len(dtypes) != 1 or not dtypes <= _REAL:
        return None
    try:
        with torch.no_grad():
            row = torch.stack(values)
    except Exception:  # noqa: BLE001 - their devices, shapes or layouts differ
        return None
    plain = (
        type(row) is torch.Tensor
        and row.dim() == 1
        and row.layout is torch.strided
        and not row.is_meta
        and not is_functorch_wrapped_tensor(row)
    )
    return row if plain else None


def sort_metrics(metrics: object, *, read_cpu: bool) -> Sorted:
    """Sort the values of one call of `run.log`; never raises, whatever it is given.

    Args:
        metrics: What the user handed over.
        read_cpu: Whether the values of plain CPU tensors are read here and now.
    """
    found = Sorted({}, {}, {})
    try:
        if not isinstance(metrics, Mapping):
            found.bad["metrics"] = f"log takes a mapping of names to numbers, not {_kind(metrics)}"
            return found
        mapping = cast("Mapping[object, object]", metrics)
        items = [(key, value) for key, value in mapping.items()]
    except Exception as error:  # noqa: BLE001 - a user's mapping may fail in any way
        found.bad["metrics"] = f"its items cannot be read: {type(error).__name__}"
        return found
    for key, value in items:
        name = _name(key)
        if name is None:
            found.bad[_safe_repr(key)] = "a metric's name must be a well-formed string"
        elif read_cpu and type(value) in _PLAIN_TENSORS:
            _read_plain(found, name, cast("torch.Tensor", value))
        elif type(value) is torch.Tensor and _is_plain_scalar(value):
            found.tensors[name] = value.detach() if value.requires_grad else value
        else:
            _sort_value(found, name, value)
    return found


def _name(key: object) -> str | None:
    """A metric's name as a plain string, or None if it cannot be written down."""
    if type(key) is str and key.isascii():
        return key
    if not issubclass(type(key), str):
        return None
    name = str.__str__(cast("str", key))  # an enum's or numpy's string becomes Python's own
    return name if well_formed(name) == name else None


def _read_plain(found: Sorted, key: str, tensor: torch.Tensor) -> None:
    """Read a plain CPU tensor at once, which takes a tenth of the time of sorting it."""
    if not tensor.is_cpu and _is_plain_scalar(tensor):
        found.tensors[key] = tensor.detach() if tensor.requires_grad else tensor
        return
    if tensor.is_cpu and tensor.numel() == 1:
        try:
            number = tensor.item()
            if isinstance(number, float) or is_exact_number(number):
                found.host[key] = float(number)
            else:
                found.bad[key] = _INEXACT
        except Exception:  # noqa: BLE001, S110 - complex, sparse...: the long way says what is wrong
            pass
        else:
            return
    _sort_value(found, key, tensor)


def _is_plain_scalar(tensor: torch.Tensor) -> bool:
    """Whether a tensor without a class of its own can be logged as it is; False means: look closer.

    A fifth of what looking closer costs, which counts where a step logs many.
    """
    return (
        tensor.dim() == 0
        and tensor.dtype in _REAL
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not is_functorch_wrapped_tensor(tensor)
    )


def _sort_value(found: Sorted, key: str, value: object) -> None:
    try:
        if isinstance(value, torch.Tensor):
            value = replicated_part(value)
            problem = _tensor_problem(value)
            if problem is None:
                found.tensors[key] = value.detach()
        else:
            problem = _sort_number(found, key, value)
    except Exception as error:  # noqa: BLE001 - a user's object may fail in any way
        problem = f"reading it raised {error_text(error)}"[:200]
    if problem is not None:
        found.bad[key] = problem


def _sort_number(found: Sorted, key: str, value: object) -> str | None:
    if hasattr(value, "__dlpack__") or type(value).__module__ == "numpy":
        value = _element(value)
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, SupportsFloat)):
        if isinstance(value, bool):
            found.host[key] = float(value)
            return None
        return _MEANT.get(type(value).__name__, f"it is no number but {_kind(value)}")
    if isinstance(value, int) and not is_exact_number(value):
        return _INEXACT
    number = float(value)
    if math.isinf(number) and not isinstance(value, float):
        return "it is beyond the range of a 64-bit float"
    found.host[key] = number
    return None


def _element(value: object) -> object:
    """The only element of a numpy or other host array, as a Python number."""
    array: _Array = value  # type: ignore[assignment]  # duck-typed: any array library on the host
    if getattr(getattr(array, "dtype", None), "kind", "") in {"m", "M"}:
        raise ValueError("a time is no number; log its seconds")
    if getattr(array, "size", 1) != 1:
        raise ValueError("an array must have exactly one element; log its mean, for example")
    device = getattr(array, "device", "cpu")
    if str(device).lower() not in {"cpu", "cpu:0"} and "cpu" not in str(device).lower():
        raise ValueError(f"it is on {device}; reading it would wait for the device")
    element = array.item()
    if hasattr(element, "__dlpack__"):
        raise ValueError("an array of arrays is no number; log its element")
    return element


def _tensor_problem(tensor: torch.Tensor) -> str | None:  # noqa: PLR0911 - a list of cases
    """Why a tensor cannot be logged, without touching its data."""
    if _is_batch(tensor):
        return "inside torch.vmap it is one of many; return it and log it outside"
    if hasattr(tensor, "fake_mode"):
        return "a fake tensor has no value"
    if is_distributed(tensor):
        return (
            "it is a DTensor of which each process holds a part, so its value is a collective; log "
            "its full_tensor(), which every rank has to call, or to_local(), this rank's part"
        )
    if tensor.numel() != 1:
        return f"a tensor must have one element, not shape {tuple(tensor.shape)}; log its mean"
    if tensor.is_complex():
        return "a complex number is two; log its parts"
    if tensor.device.type == "meta":
        return "a meta tensor has no value"
    if tensor.layout != torch.strided:
        return f"a tensor of layout {tensor.layout} has no plain value"
    if tensor.is_quantized:
        return "a quantized tensor has no plain value; log tensor.dequantize()"
    return None


def _is_batch(tensor: torch.Tensor) -> bool:
    """Whether `torch.vmap` runs over it, perhaps under another transform."""
    while is_functorch_wrapped_tensor(tensor):
        if is_batchedtensor(tensor):
            return True
        tensor = get_unwrapped(tensor)
    return False


def only_numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """Those of a dictionary's values that are numbers, for an event."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def checked_step(step: object, bad: dict[str, str]) -> int | None:
    """The step as an integer; None, with the reason added to `bad`, if it is none."""
    if step is None:
        return None
    try:
        # An array may be on a device, where even looking at it would wait.
        if not hasattr(step, "__dlpack__"):
            number = int(step)  # type: ignore[call-overload]  # numpy integers come here too
            if number == step and 0 <= number <= LAST_STEP:
                return int(number)
    except Exception:  # noqa: BLE001, S110 - a user's object may fail in any way; said below
        pass
    kind = type(step).__name__
    bad["step"] = f"a step is an integer from 0 to 2**53, not this {kind}; logged without one"
    return None


def error_text(error: BaseException) -> str:
    """An exception's class and words; it may be a user's, whose words may fail."""
    try:
        return well_formed(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - a `__str__` is user code and may fail in any way
        return type(error).__name__


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _safe_repr(value: object) -> str:
    try:
        return well_formed(repr(value)[:80])
    except Exception:  # noqa: BLE001 - a `__repr__` is user code and may fail in any way
        return f"<{_kind(value)}>"
