"""What settings of a service have in common: they are found where its own client finds them, too.

Arguments win over the environment, and that over variables of other names and files.
"""

import configparser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
)

from sinks._http_settings import HttpSettings

TRUE: Final = frozenset({"1", "on", "yes", "true"})
"""Words for yes, in small letters."""
FALSE: Final = frozenset({"0", "off", "no", "false", ""})


class ServiceSettings(HttpSettings):
    """Settings of a service that has a client of its own."""

    @classmethod
    def _given(cls, arguments: dict[str, object]) -> dict[str, object]:
        """The arguments as they count: one may switch off what the environment says of another."""
        return arguments

    @classmethod
    def _elsewhere(cls, known: Mapping[str, object]) -> dict[str, object]:
        """What the service's own client finds beside the variables that are named like fields.

        Args:
            known: What arguments and the environment say, by the fields' names or their variables'.
        """
        del known
        return {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then what is found elsewhere."""
        del dotenv_settings, file_secret_settings
        first = InitSettingsSource(settings_cls, init_kwargs=cls._given(init_settings()))
        return first, env_settings, _Elsewhere(settings_cls, cls._elsewhere)


class _Elsewhere(PydanticBaseSettingsSource):
    """What is found after what is known already."""

    def __init__(
        self,
        settings: type[BaseSettings],
        find: Callable[[Mapping[str, object]], dict[str, object]],
    ) -> None:
        super().__init__(settings)
        self._find = find

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, object]:
        return self._find(self.current_state)


def read_ini(path: Path) -> Mapping[str, Mapping[str, str]]:
    """The sections of an INI file; {} where there is none that can be read."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return {name: dict(parser[name]) for name in parser.sections()}


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(name for each in value.split(",") if (name := each.strip()))


Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""Names that a variable holds with commas between them."""


def taken_apart(address: str) -> SplitResult:
    """The parts of an address.

    Raises:
        ValueError: It is none.
    """
    try:
        return urlsplit(address)
    except ValueError:
        raise ValueError("is no address") from None


def word(value: object) -> str:
    """A choice in small letters."""
    return str(value).strip().lower()
