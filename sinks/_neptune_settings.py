"""Which Neptune project a run goes to, and how it is to be shown there.

Arguments win over the environment. The variables are those of Neptune's own client, the other
settings are named like arguments of it and of Transformers' callback.
"""

import os
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from bus import SwitchedOffError
from sinks._http import HttpSettings
from sinks._neptune_token import ApiToken
from sinks._service_settings import Names

Dialect: TypeAlias = Literal["neptune", "minfx"]
LogCheckpoints: TypeAlias = Literal["none", "same", "last", "best"]
Nonfinite: TypeAlias = Literal["text", "drop"]

LONGEST_ID: Final = 36
"""Characters of a custom run id."""

_OFF: Final = frozenset({"debug", "disabled"})


def _namespace(value: object) -> object:
    return value.strip("/ ") if isinstance(value, str) else value


def _none(value: object) -> object:
    """Transformers' callback says None."""
    return "none" if value in (None, "") else value


class NeptuneSettings(HttpSettings):
    """Settings of the Neptune sink; the variables are `NEPTUNE_` and the name in capitals."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="NEPTUNE_", env_ignore_empty=True
    )

    api_token: SecretStr = Field(
        description="API token of a user or a service account; it holds the server's address."
    )
    project: str = Field(description="Workspace and project, as in `team/demo`.")
    dialect: Dialect = Field(
        default="neptune",
        description="Whose server it is: `neptune` (2.x, on one's own machines) or `minfx`.",
    )
    mode: Literal["async", "offline"] = Field(
        default="async",
        description="`offline` sends nothing before `hotloop sync`; `debug` turns the sink off.",
    )
    name: str | None = Field(
        default=None, description="Name of the run there; the run's own by default."
    )
    description: str = Field(default="", description="What the run is about.")
    tags: Names = Field(
        default=(), description="Tags of the run; in the variable with commas between them."
    )
    group_tags: Names = Field(
        default=(), description="Names of the groups that the run is shown in; as the tags."
    )
    with_id: str | None = Field(
        default=None, description="A run to go on with, by its id there, as in `DEM-1`."
    )
    custom_run_id: str | None = Field(
        default=None,
        description="An id by which several processes write to one run; the run's own by default.",
    )
    base_namespace: Annotated[str, BeforeValidator(_namespace)] = Field(
        default="finetuning", description="The namespace that everything is logged in."
    )
    monitoring_namespace: Annotated[str, BeforeValidator(_namespace)] = Field(
        default="monitoring", description="The namespace of system metrics and console lines."
    )
    log_parameters: bool = Field(default=True, description="Whether parameters are sent.")
    log_checkpoints: Annotated[LogCheckpoints, BeforeValidator(_none)] = Field(
        default="none",
        description="Which checkpoints are uploaded: none, same (each), the last, the best.",
    )
    log_artifacts: bool = Field(
        default=False, description="Whether other files that the program announces are uploaded."
    )
    nonfinite: Nonfinite = Field(
        default="text",
        description="NaN and infinities, which Neptune cannot store: as text beside, or dropped.",
    )

    @property
    def address(self) -> ApiToken:
        """Where the token says that the server is."""
        return ApiToken.parsed(self.api_token.get_secret_value())

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, data: dict[str, object]) -> dict[str, object]:
        mode = data.get("mode")
        if mode in _OFF:
            raise SwitchedOffError(f"NEPTUNE_MODE is {mode}, which turns this sink off")
        if mode in ("sync", "read-only"):
            raise ValueError(
                f"NEPTUNE_MODE is {mode}, which would hold up the training or write nothing; "
                "unset it or make it async or offline"
            )
        if "verify" not in data and os.environ.get("NEPTUNE_ALLOW_SELF_SIGNED_CERTIFICATE"):
            return {**data, "verify": False}  # whatever it says, as Neptune's own client has it
        return data

    @field_validator("api_token")
    @classmethod
    def _readable(cls, token: SecretStr) -> SecretStr:
        ApiToken.parsed(token.get_secret_value())
        return token

    @field_validator("project")
    @classmethod
    def _two_names(cls, project: str) -> str:
        workspace, slash, name = project.strip().partition("/")
        if not (workspace and slash and name) or "/" in name:
            raise ValueError("must be workspace/project, as in team/demo")
        return project.strip()

    @field_validator("custom_run_id")
    @classmethod
    def _short(cls, custom_id: str | None) -> str | None:
        if custom_id is not None and len(custom_id) > LONGEST_ID:
            raise ValueError(
                f"has {len(custom_id)} characters; Neptune takes {LONGEST_ID}, so shorten it"
            )
        return custom_id
