"""Where a DagsHub repository is, and who writes to it.

Arguments win over the environment, that over the file in which DagsHub's own client keeps its
tokens. The variables are those of that client, of MLflow's, and of Transformers' callback.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PositiveFloat, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from sinks._authorization import secret
from sinks._dagshub_tokens import read_token, tokens_file
from sinks._mlflow_settings import LogArtifacts, MlflowSettings
from sinks._service_settings import FALSE, TRUE, word

HOST: Final = "https://dagshub.com"
_TRACKING: Final = re.compile(r"(?P<base>.*)/(?P<owner>[^/]+)/(?P<name>[^/]+)\.mlflow")


def _when(value: object) -> object:
    """HF_DAGSHUB_LOG_ARTIFACTS only knows yes, which means the end, and no."""
    told = word(value)
    return "end" if told in TRUE else "never" if told in FALSE else told


class DagsHubSettings(MlflowSettings):
    """Settings of the DagsHub sink: MLflow's, and those of the repository."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="MLFLOW_", env_ignore_empty=True, populate_by_name=True
    )

    tracking_uri: str = Field(
        description="The repository's MLflow: https://dagshub.com/OWNER/NAME.mlflow."
    )
    repository: str | None = Field(
        default=None,
        pattern=r"[^/\s]+/[^/\s]+",
        validation_alias="DAGSHUB_REPOSITORY",
        description="OWNER/NAME, instead of tracking_uri.",
    )
    host: str = Field(
        default=HOST,
        validation_alias="DAGSHUB_CLIENT_HOST",
        description="Where DagsHub is, for repository.",
    )
    user_token: SecretStr | None = Field(
        default=None,
        validation_alias="DAGSHUB_USER_TOKEN",
        description="An access token; the one of `dagshub login` by default.",
    )
    tracking_username: str | None = Field(
        default=None,
        description="User, with a password or a token; otherwise DAGSHUB_USERNAME or the token's.",
    )
    tracking_password: SecretStr | None = Field(
        default=None, description="The user's password or token; otherwise DAGSHUB_PASSWORD."
    )
    branch: str = Field(
        default="main",
        validation_alias="BRANCH",
        description="Branch that files are committed to; made from the default one if need be.",
    )
    log_artifacts: Annotated[LogArtifacts, BeforeValidator(_when)] = Field(
        default="never",
        validation_alias="HF_DAGSHUB_LOG_ARTIFACTS",
        description=(
            "Which files are committed to the repository: never, at the end all that are still "
            "there, checkpoints as they are saved, all."
        ),
    )
    # The server answers an upload when it has hashed and committed all of it.
    timeout: PositiveFloat = Field(
        300.0, description="seconds for a request with its answer; for an upload, without progress"
    )
    read_timeout: PositiveFloat = Field(300.0, description="seconds without a byte of the answer")

    @classmethod
    def _given(cls, arguments: dict[str, object]) -> dict[str, object]:
        """As MLflow's; the user's token is one, too."""
        if arguments.get("user_token") or arguments.get("DAGSHUB_USER_TOKEN"):
            # A user in the environment would win over a token, and so over this argument.
            arguments = {"tracking_username": None, "tracking_password": None, **arguments}
        return super()._given(arguments)

    @classmethod
    def _elsewhere(cls, known: Mapping[str, object]) -> dict[str, object]:
        """The address that follows from a repository's name, and credentials; then as MLflow's."""
        # Arguments and the environment may name a field by its variable.
        names = {str(info.validation_alias): name for name, info in cls.model_fields.items()}
        found = _of_repository({names.get(key, key): value for key, value in known.items()})
        return {**super()._elsewhere({**found, **known}), **found}

    @field_validator("tracking_uri")
    @classmethod
    def _of_a_repository(cls, uri: str) -> str:
        if _TRACKING.fullmatch(urlsplit(uri).path) is None:
            raise ValueError(
                "must be the address of a repository's MLflow, such as "
                "https://dagshub.com/OWNER/NAME.mlflow; for any other server use the sink mlflow"
            )
        return uri

    @property
    def api(self) -> str:
        """Where DagsHub's own interface is."""
        parts = urlsplit(self.tracking_uri)
        return f"{parts.scheme}://{parts.netloc}{self._tracking['base']}/api/v1"

    @property
    def owner_and_name(self) -> str:
        """The repository as OWNER/NAME."""
        return f"{self._tracking['owner']}/{self._tracking['name']}"

    @property
    def token(self) -> str:
        """The access token; "" without one."""
        return secret(self.user_token or self.tracking_token)

    @property
    def _tracking(self) -> Mapping[str, str]:
        found = _TRACKING.fullmatch(urlsplit(self.tracking_uri).path)
        assert found is not None
        return found.groupdict()


def _of_repository(known: Mapping[str, object]) -> dict[str, object]:
    """What a repository's name means, and who DagsHub's own client would be."""
    found: dict[str, object] = {}
    uri = str(known.get("tracking_uri") or "")
    if not uri and known.get("repository"):
        host = str(known.get("host") or HOST).rstrip("/")
        uri = found["tracking_uri"] = f"{host}/{known['repository']}.mlflow"
    if known.keys() & {"user_token", "tracking_token", "tracking_password"} or "@" in uri:
        return found
    user, password = (os.environ.get(f"DAGSHUB_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password and "tracking_username" not in known:
        return {**found, "tracking_username": user, "tracking_password": password}
    parts = urlsplit(uri)
    now = datetime.now(UTC)
    token = read_token(tokens_file(os.environ), f"{parts.scheme}://{parts.netloc}", now)
    return {**found, "user_token": token} if token else found
