"""What events and requests have in common: frozen models, found again by the `type` they carry."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from typing_extensions import dataclass_transform

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
    from pydantic._internal._namespace_utils import MappingNamespace
else:
    ModelMetaclass = type(BaseModel)

from bus._errors import EventDefinitionError
from bus._interrupts import deferred_interrupt


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class _FrozenMeta(ModelMetaclass):
    """Tells type checkers that fields cannot be assigned, so that a subclass may narrow `type`."""


class FrozenModel(BaseModel, metaclass=_FrozenMeta, frozen=True):
    """A model whose instances never change."""

    @classmethod
    def model_rebuild(
        cls,
        *,
        force: bool = False,
        raise_errors: bool = True,
        _parent_namespace_depth: int = 2,
        _types_namespace: "MappingNamespace | None" = None,
    ) -> bool | None:
        """Build what validates and serializes, when it is first used, as pydantic does.

        Ctrl-C waits until that is over: pydantic would make a `SchemaError` of it.
        """
        with deferred_interrupt():
            return super().model_rebuild(
                force=force,
                raise_errors=raise_errors,
                _parent_namespace_depth=_parent_namespace_depth + 1,
                _types_namespace=_types_namespace,
            )


class TypeRegistry:
    """The concrete subclasses of one base model, each under its own `type`."""

    def __init__(self) -> None:
        self._classes: dict[str, type[BaseModel]] = {}

    def get(self, name: str) -> type[BaseModel] | None:
        """The class of this type, or None if this process defines none."""
        return self._classes.get(name)

    def names_of(self, classes: tuple[type[BaseModel], ...]) -> set[str]:
        """The types of these classes and of everything derived from them."""
        return {name for name, cls in self._classes.items() if issubclass(cls, classes)}

    def register(self, cls: type[BaseModel]) -> None:
        """Make a class known by its `type`, or explain why it cannot be.

        A class without a default `type` is an abstract step towards concrete ones and is passed
        over. Defining the same class again (a notebook cell run twice) replaces the old one.

        Raises:
            EventDefinitionError: The `type` is no string, or belongs to another class.
        """
        field = cls.model_fields["type"]
        if field.is_required():
            return
        name: object = field.default
        if not isinstance(name, str) or not name:
            raise EventDefinitionError(
                f'{cls.__qualname__}.type must be a string: type: Literal["my_event"] = "my_event"'
            )
        other = self._classes.get(name)
        if other is not None and not _same_definition(cls, other):
            raise EventDefinitionError(
                f"{cls.__qualname__} has type {name!r}, which is {other.__module__}."
                f"{other.__qualname__} already; give it a `type` of its own"
            )
        self._classes[name] = cls


def _same_definition(cls: type, other: type) -> bool:
    if cls.__qualname__ != other.__qualname__:
        return False
    # A script run as `__main__` and imported again by a worker defines the same class twice.
    return cls.__module__ == other.__module__ or "__main__" in (cls.__module__, other.__module__)
