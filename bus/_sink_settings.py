"""Settings of sinks, and what is said when they are missing or wrong: never a value of them."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus._errors import BusError


class SwitchedOffError(ValueError):
    """What a validator of settings raises if they say that there shall be no such sink.

    `WANDB_MODE=disabled` is such a one. A run then goes on without the sink, also if it was named.
    """


class NotConfiguredError(BusError, ValueError):
    """A sink lacks settings.

    Attributes:
        sink: Its name.
        problems: What is missing or wrong, one sentence each; never a value.
        help: Where to get what is missing.
        switched_off: Whether settings say that there shall be no such sink.
    """

    switched_off = False

    def __init__(self, sink: str, problems: Sequence[str], help: str = "") -> None:  # noqa: A002 - said so everywhere
        listed = "; ".join(problems)
        super().__init__(f"{sink} is not configured: {listed}" + (f". {help}" if help else ""))
        self.sink = sink
        self.problems: tuple[str, ...] = tuple(problems)
        self.help = help


class SinkSettings(BaseSettings):
    """Settings of a sink: arguments beat the environment. Secrets are `SecretStr`.

    Give the subclass an `env_prefix`, and each field the description that tells a user what it is.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )


def not_configured(
    sink: str,
    settings: type[SinkSettings],
    error: ValidationError,
    help: str,  # noqa: A002 - said so everywhere
) -> NotConfiguredError:
    """What there is to say of settings that are refused."""
    causes = (each.get("ctx", {}).get("error") for each in error.errors())
    for each in causes:
        if isinstance(each, SwitchedOffError):
            off = NotConfiguredError(sink, [str(each)])
            off.switched_off = True
            return off
    return NotConfiguredError(sink, _problems(error, settings), help)


def _problems(error: ValidationError, settings: type[SinkSettings]) -> list[str]:
    """What is wrong with settings, without any value of them."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    aliases = {info.validation_alias: name for name, info in settings.model_fields.items()}
    found: list[str] = []
    for each in error.errors(include_input=False, include_context=False, include_url=False):
        said = each["msg"].removeprefix("Value error, ")
        if not each["loc"]:  # of several settings together, which it names itself
            found.append(said)
            continue
        place = ".".join(str(part) for part in each["loc"])
        field = aliases.get(place)
        variable = f"{prefix}{place}".upper() if field is None else place
        where = f"{field or place} (or the environment variable {variable})"
        found.append(f"set {where}" if each["type"] == "missing" else f"{where}: {said}")
    return found
