"""Checks the values of a dataclass against its annotations, a subclass's own fields included.

Pydantic does the checking and converting ("8" for an int, a list for a tuple, a word for an enum
member), as when arguments come from a command line or from JSON. It works on the annotations of the
class at hand, so that a subclass made with plain `@dataclass` needs nothing to be checked too.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, cast, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.warnings import ArbitraryTypeWarning

from runtime._argument_forms import is_mask, shown

_CONFIG: Final = ConfigDict(arbitrary_types_allowed=True)
_CONFIG_ELSEWHERE: Final = "type-adapter-config-unused"
"""Pydantic's code for types that bring a configuration of their own."""


def validated(cls: type, values: Mapping[str, object]) -> dict[str, object]:
    """The values of some fields of a dataclass, converted to what their annotations say.

    A field's default is good whatever its annotation says, as for pydantic itself. An integer
    stays one where a float is wanted. A secret that `to_dict` has masked is as good as none.

    Raises:
        ValueError: Values do not fit; the message names each, and why, but no secret.
        TypeError: An annotation cannot be read or checked.
    """
    known = _known(cls)
    checked: dict[str, object] = {}
    faults: list[str] = []
    for name, given in values.items():
        field = known[name]
        value = field.default if is_mask(name, given) else given
        try:
            checked[name] = field.check(value)
        except ValidationError as error:
            if value is not field.default:
                faults.append(f"{name}={shown(name, value)}: {_reasons(error)}")
            checked[name] = value
        except ValueError as error:
            faults.append(f"{name}={shown(name, value)}: {error}")
    if faults:
        raise ValueError(f"{cls.__name__}: {'; '.join(faults)}")
    return checked


@dataclass(frozen=True)
class _Field:
    adapter: TypeAdapter[object]
    default: object
    is_mapping: bool

    def check(self, value: object) -> object:
        """Convert a value.

        Raises:
            ValueError: It does not fit; a ValidationError if pydantic says so.
        """
        if isinstance(value, np.generic):
            value = cast("np.generic[object]", value).item()
        elif self.is_mapping and isinstance(value, str) and value.lstrip().startswith("{"):
            value = json.loads(value)  # as command lines have it
        found = self.adapter.validate_python(value)
        return value if type(value) is int and type(found) is float else found


@cache
def _known(cls: type) -> Mapping[str, _Field]:
    """What is known of each field of a dataclass.

    Raises:
        TypeError: An annotation cannot be read or checked.
    """
    try:
        hints: dict[str, type[object]] = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}: an annotation cannot be read ({error}): define the types of fields "
            "at the top of their module"
        ) from error
    return {
        each.name: _Field(
            _adapter(f"{cls.__name__}.{each.name}", hints[each.name]),
            each.default,
            _takes_mapping(hints[each.name]),
        )
        for each in fields(cls)
    }


def _adapter(name: str, hint: type[object]) -> TypeAdapter[object]:
    try:
        return _made_adapter(hint)
    except (PydanticUserError, ArbitraryTypeWarning) as error:
        raise TypeError(
            f"{name}: values of {hint} cannot be checked: annotate it with a type ({error})"
        ) from error


def _made_adapter(hint: type[object]) -> TypeAdapter[object]:
    with warnings.catch_warnings():
        # what pydantic only warns of, it does not check at all
        warnings.simplefilter("error", ArbitraryTypeWarning)
        try:
            return TypeAdapter(hint, config=_CONFIG)
        except PydanticUserError as error:
            if error.code != _CONFIG_ELSEWHERE:
                raise
            return TypeAdapter(hint)


def _takes_mapping(hint: object) -> bool:
    return any((get_origin(each) or each) is dict for each in (hint, *get_args(hint)))


def _reasons(error: ValidationError) -> str:
    """Pydantic's reasons, each once, with where in a nested value it found them."""
    reasons: dict[str, None] = {}
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"] if not _names_a_type(part))
        reasons[f"{where}: {fault['msg']}" if where else fault["msg"]] = None
    return " or ".join(reasons)


def _names_a_type(part: int | str) -> bool:
    """Whether a part of a location tells the branch of a union and not a place in the value."""
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "bool"))
