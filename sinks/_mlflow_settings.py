"""Where an MLflow server is and how a run is to be shown there.

Arguments win over the environment, that over `~/.mlflow/credentials` and over what the `mlflow`
package was told, if the program has imported it. The variables are those of MLflow's own client and
of Transformers' callback.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from bus import SwitchedOffError
from sinks._service_settings import FALSE, TRUE, ServiceSettings, read_ini, taken_apart, word

LogArtifacts: TypeAlias = Literal["never", "end", "checkpoints", "all"]

_CREDENTIALS: Final = frozenset({"tracking_username", "tracking_password", "tracking_token"})


def _tags(value: object) -> object:
    """MLFLOW_TAGS is a JSON object."""
    if not isinstance(value, str):
        return value
    try:
        decoded = cast("object", json.loads(value))
    except ValueError:
        raise ValueError('must be a JSON object, such as {"team": "nlp"}') from None
    return decoded


def _texts(value: object) -> object:
    decoded = _tags(value)
    if not isinstance(decoded, dict):
        return decoded
    pairs = cast("dict[object, object]", decoded)
    return {str(key): each if isinstance(each, str) else str(each) for key, each in pairs.items()}


def _when(value: object) -> object:
    """HF_MLFLOW_LOG_ARTIFACTS only knows yes and no."""
    told = word(value)
    return "checkpoints" if told in TRUE else "never" if told in FALSE else told


def read_credentials(path: Path) -> dict[str, str]:
    """User name and password of MLflow's credentials file; {} where there are none."""
    section = read_ini(path).get("mlflow", {})
    names = ("tracking_username", "tracking_password")
    return {name: section[f"mlflow_{name}"] for name in names if f"mlflow_{name}" in section}


def without_user(data: dict[str, object]) -> dict[str, object]:
    """Settings whose credentials in the address have moved to where secrets are kept as such."""
    uri = str(data.get("tracking_uri") or "")
    try:
        parts = urlsplit(uri)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return data
    if "@" not in parts.netloc:
        return data
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if not data.get("tracking_username"):
        data = {**data, "tracking_username": user, "tracking_password": password}
    return {**data, "tracking_uri": plain}


def imported_tracking_uri() -> str | None:
    """The server that the program gave to the `mlflow` package, if it has imported it."""
    tracking = sys.modules.get("mlflow.tracking")
    if tracking is None or not getattr(tracking, "is_tracking_uri_set", bool)():
        return None
    return str(tracking.get_tracking_uri())


def active_run_id() -> str | None:
    """The run that is active in this thread for the `mlflow` package, if that is imported."""
    active_run = getattr(sys.modules.get("mlflow"), "active_run", None)
    active = active_run() if callable(active_run) else None
    run_id = getattr(getattr(active, "info", None), "run_id", None)
    return run_id if isinstance(run_id, str) else None


class MlflowSettings(ServiceSettings):
    """Settings of the MLflow sink; the variables are `MLFLOW_` and the name in capitals."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="MLFLOW_", env_ignore_empty=True, populate_by_name=True
    )

    tracking_uri: str = Field(description="Address of an MLflow server: http:// or https://.")
    tracking_username: str | None = Field(default=None, description="User, with a password.")
    tracking_password: SecretStr | None = Field(default=None, description="The user's password.")
    tracking_token: SecretStr | None = Field(
        default=None, description="Bearer token, where there is no user."
    )
    experiment_name: str | None = Field(
        default=None, description="Experiment, made if there is none; the run's project by default."
    )
    run_name: str | None = Field(default=None, description="Name there; the run's own by default.")
    run_id: str | None = Field(default=None, description="An MLflow run to go on with.")
    end_run: bool = Field(default=True, description="Whether the run there ends with ours.")
    nested_run: bool = Field(default=False, description="Make it a child of the active run.")
    parent_run_id: str | None = Field(default=None, description="Make it a child of this run.")
    tags: Annotated[dict[str, str], NoDecode, BeforeValidator(_texts)] = Field(
        default_factory=dict[str, str], description="Tags of the run, as a JSON object."
    )
    flatten_params: bool = Field(
        default=False, description="Write nested parameters as outer.inner."
    )
    max_log_params: NonNegativeInt | None = Field(
        default=None, description="How many parameters are sent at most; all by default."
    )
    log_artifacts: Annotated[LogArtifacts, BeforeValidator(_when)] = Field(
        default="never",
        validation_alias="HF_MLFLOW_LOG_ARTIFACTS",
        description="Which files are uploaded: never, at the end the last ones, checkpoints, all.",
    )

    @classmethod
    def _given(cls, arguments: dict[str, object]) -> dict[str, object]:
        """Without credentials in the address; a token switches off the environment's user."""
        arguments = without_user(arguments)
        if arguments.get("tracking_token"):
            # A user in the environment would win over a token, and so over this argument.
            return {"tracking_username": None, "tracking_password": None, **arguments}
        return arguments

    @classmethod
    def _elsewhere(cls, known: Mapping[str, object]) -> dict[str, object]:
        """What stands in MLflow's file of credentials, and what its package was told."""
        found: dict[str, object] = {}
        told = {name for name, value in known.items() if value is not None}
        in_address = "@" in str(known.get("tracking_uri"))
        if not in_address and not told & _CREDENTIALS:
            found |= read_credentials(Path.home() / ".mlflow" / "credentials")
        if "tracking_uri" not in told and (uri := imported_tracking_uri()):
            found["tracking_uri"] = uri
        if certificate := os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
            found["verify"] = certificate
        elif os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in TRUE:
            found["verify"] = False
        if client := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
            found["client_cert"] = client
        return found

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, data: dict[str, object]) -> dict[str, object]:
        if os.environ.get("DISABLE_MLFLOW_INTEGRATION", "").lower() in TRUE:
            raise SwitchedOffError("DISABLE_MLFLOW_INTEGRATION is set")
        return without_user(data)

    @field_validator("tracking_uri")
    @classmethod
    def _served(cls, uri: str) -> str:
        parts = taken_apart(uri.strip())
        if parts.scheme == "azureml":
            raise ValueError("is a workspace of Azure ML; use the sink azure_ml")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(
                "must be an http:// or https:// address; for files or a database start "
                "`mlflow server --backend-store-uri ...` and give its address"
            )
        return uri.strip().rstrip("/")
