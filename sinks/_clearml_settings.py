"""Where a ClearML server is, who asks, and how a run is to be shown there.

Arguments win over the environment, that over `clearml.conf`. The variables are those of ClearML's
own client and of Transformers' callback.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticKnownError
from pydantic_settings import NoDecode, SettingsConfigDict

from sinks._clearml_conf import read_api
from sinks._service_settings import FALSE, TRUE, ServiceSettings, taken_apart, word

TaskType: TypeAlias = Literal[
    "training",
    "testing",
    "inference",
    "data_processing",
    "application",
    "monitor",
    "controller",
    "optimizer",
    "service",
    "qc",
    "custom",
]
LogModel: TypeAlias = Literal["never", "end", "checkpoints", "all"]

_HOSTED: Final = "https://api.clear.ml"


def _when(value: object) -> object:
    """CLEARML_LOG_MODEL only knows yes and no."""
    if value is None:
        return None
    told = word(value)
    return "checkpoints" if told in TRUE else "never" if told and told in FALSE else told


def _tags(value: object) -> object:
    """A JSON list, or names with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return cast("object", json.loads(value))
        except ValueError:
            raise ValueError('must be a list, such as ["nlp", "base"] or nlp,base') from None
    return [each.strip() for each in value.split(",") if each.strip()]


def current_task_id() -> str | None:
    """The task that the `clearml` package has in this process, if the program has imported it."""
    current = getattr(getattr(sys.modules.get("clearml"), "Task", None), "current_task", None)
    found = getattr(current() if callable(current) else None, "id", None)
    return found if isinstance(found, str) else None


class ClearmlSettings(ServiceSettings):
    """Settings of the ClearML sink; the variables are `CLEARML_` and the name in capitals."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="CLEARML_", env_ignore_empty=True
    )

    api_host: str = Field(default=_HOSTED, description="Address of the API server.")
    web_host: str | None = Field(
        default=None, description="Address of its pages; from the API server's by default."
    )
    files_host: str | None = Field(
        default=None, description="Address of its file server; from the API server's by default."
    )
    auth_token: SecretStr | None = Field(
        default=None, description="A token instead of the two keys."
    )
    api_access_key: SecretStr | None = Field(
        default=None, description="The key that says who asks; needed unless there is a token."
    )
    api_secret_key: SecretStr | None = Field(default=None, description="The secret beside it.")
    project: str | None = Field(
        default=None, description="Project, made if there is none; the run's own by default."
    )
    task: str | None = Field(default=None, description="Task's name; the run's own by default.")
    task_id: str | None = Field(default=None, description="A task to go on with.")
    end_task: bool = Field(default=True, description="Whether the task ends with the run.")
    tags: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_tags)] = Field(
        default=(), description="Tags of a new task, with commas between them."
    )
    task_type: TaskType = Field(default="training", description="What a new task is for.")
    comment: str = Field(default="", description="Notes about a new task.")
    log_model: Annotated[LogModel | None, BeforeValidator(_when)] = Field(
        default=None,
        description="Which files are uploaded: never, at the end the last ones, checkpoints, all; "
        "checkpoints by default, never for a task that was there before.",
    )
    keep_models: PositiveInt | None = Field(
        default=None,
        description="How many checkpoints stay on the server, the latest; all by default.",
    )
    offline_mode: bool = Field(
        default=False, description="Send nothing now; `hotloop sync` without it does later."
    )

    @property
    def pages(self) -> str:
        """Address of the web server, guessed from the API server's as ClearML's client does."""
        return self.web_host or _sibling(self.api_host, "app", 8080)

    @property
    def files(self) -> str:
        """Address of the file server."""
        return self.files_host or _sibling(self.api_host, "files", 8081)

    @classmethod
    def _given(cls, arguments: dict[str, object]) -> dict[str, object]:
        """Two keys switch off a token."""
        if arguments.get("api_access_key") and arguments.get("api_secret_key"):
            # A token in the environment would win over keys, and so over these arguments.
            return {"auth_token": None, **arguments}
        return arguments

    @classmethod
    def _elsewhere(cls, known: Mapping[str, object]) -> dict[str, object]:
        """What `clearml.conf` says."""
        path = os.environ.get("CLEARML_CONFIG_FILE") or "~/clearml.conf"
        api = read_api(Path(path).expanduser())
        names = {"api_host": "api_server", "web_host": "web_server", "files_host": "files_server"}
        found: dict[str, object] = {ours: api[name] for ours, name in names.items() if name in api}
        told = {name for name, value in known.items() if value is not None}
        if not told & {"api_access_key", "api_secret_key", "auth_token"}:
            keys = {"api_access_key": "access_key", "api_secret_key": "secret_key"}
            for ours, name in keys.items():
                if value := api.get(f"credentials.{name}"):
                    found[ours] = value
        checked = os.environ.get("CLEARML_API_HOST_VERIFY_CERT") or api.get("verify_certificate")
        if checked and checked.lower() in FALSE:
            found["verify"] = False
        return found

    @field_validator("api_access_key", "api_secret_key")
    @classmethod
    def _present(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is None and info.data.get("auth_token") is None:
            raise PydanticKnownError("missing")
        return key

    @field_validator("api_host", "web_host", "files_host")
    @classmethod
    def _served(cls, host: str | None, info: ValidationInfo) -> str | None:
        if host is None:
            return None
        parts = taken_apart(host.strip())
        storage = info.field_name == "files_host" and parts.scheme  # s3:// and its like
        if (parts.scheme not in ("http", "https") and not storage) or not parts.netloc:
            raise ValueError("must be an http:// or https:// address")
        return host.strip().rstrip("/")


def _sibling(api: str, name: str, port: int) -> str:
    """The address of another server of the same installation."""
    parts = urlsplit(api)
    if parts.port is not None:
        return f"{parts.scheme}://{parts.netloc.rpartition(':')[0]}:{port}"
    if parts.netloc.startswith("api."):
        return f"{parts.scheme}://{name}.{parts.netloc.removeprefix('api.')}"
    return f"{parts.scheme}://{parts.netloc}:{port}"
