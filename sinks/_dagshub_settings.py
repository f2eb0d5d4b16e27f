"""Where a DagsHub repository is, and who writes to it.

Arguments win over the environment, that over the file in which DagsHub's own client keeps its
tokens. The variables are those of that client, of MLflow's, and of Transformers' callback.
"""

import datetime
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sinks._mlflow_settings import LogArtifacts, MlflowSettings

HOST: Final = "https://dagshub.com"
_REPOSITORY: Final = re.compile(r"(?P<base>.*)/(?P<owner>[^/]+)/(?P<name>[^/]+)\.mlflow")
_YES: Final = frozenset({"1", "on", "yes", "true"})
_NO: Final = frozenset({"0", "off", "no", "false", ""})
_ENTRY: Final = re.compile(r"(?:- |  )(?P<key>\w+): *(?P<value>.*)")


def _when(value: object) -> object:
    """HF_DAGSHUB_LOG_ARTIFACTS says yes or no, and means the end."""
    word = str(value).strip().lower()
    return "end" if word in _YES else "never" if word in _NO else word


def tokens_file(environment: Mapping[str, str]) -> Path:
    """Where DagsHub's client keeps its tokens."""
    cache = environment.get("XDG_CACHE_HOME") or "~/.cache"
    named = environment.get("DAGSHUB_CLIENT_TOKENS_CACHE") or f"{cache}/dagshub/tokens"
    return Path(named).expanduser()


def read_token(path: Path, host: str, now: datetime.datetime) -> str | None:
    """The token for a host in the file of DagsHub's client, one that never expires before others.

    It is YAML as `dagshub login` writes it: `https://dagshub.com:` and below it a list of mappings
    with `access_token`, `expiry` ("never" or a time in UTC) and `token_type`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    entries: list[dict[str, str]] = []
    ours = False
    for line in lines:
        if not line.startswith(("-", " ")):
            ours = line.strip().rstrip(":").rstrip("/") == host.rstrip("/")
        elif ours and (match := _ENTRY.fullmatch(line.rstrip())):
            if line.startswith("-"):
                entries.append({})
            if entries:
                entries[-1][match["key"]] = match["value"].strip("'\"")
    good = [each for each in entries if "access_token" in each and _lasts(each, now)]
    good.sort(key=lambda each: each["expiry"] != "never")
    return good[0]["access_token"] if good else None


def _lasts(entry: Mapping[str, str], now: datetime.datetime) -> bool:
    expiry = entry.get("expiry", "")
    if expiry == "never":
        return True
    try:
        when = datetime.datetime.fromisoformat(expiry)
    except ValueError:
        return False
    return when.replace(tzinfo=datetime.timezone.utc) > now


class _Tokens(PydanticBaseSettingsSource):
    """The repository's own address, and the token that `dagshub login` has left."""

    def get_field_value(self, field: object, field_name: str) -> tuple[object, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, object]:
        known = {name: value for name, value in self.current_state.items() if value}
        found: dict[str, object] = {}
        host = str(known.get("host") or HOST).rstrip("/")
        repository = known.get("repository")
        if repository and "tracking_uri" not in known:
            found["tracking_uri"] = f"{host}/{repository}.mlflow"
        given = known.keys() & {"user_token", "tracking_password", "tracking_username"}
        if not given and "@" not in str(known.get("tracking_uri")):
            address = urlsplit(str(known.get("tracking_uri") or host))
            now = datetime.datetime.now(tz=datetime.timezone.utc)
            token = read_token(tokens_file(os.environ), f"{address.scheme}://{address.netloc}", now)
            if token:
                found["user_token"] = token
        return found


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
        default=HOST, validation_alias="DAGSHUB_CLIENT_HOST", description="Where DagsHub is."
    )
    user_token: SecretStr | None = Field(
        default=None,
        validation_alias="DAGSHUB_USER_TOKEN",
        description="An access token; the one of `dagshub login` by default.",
    )
    tracking_username: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_USERNAME", "DAGSHUB_USERNAME"),
        description="User, with a password or a token; the token's own by default.",
    )
    tracking_password: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_PASSWORD", "DAGSHUB_PASSWORD"),
        description="The user's password, or a token.",
    )
    branch: str = Field(
        default="main", validation_alias="BRANCH", description="Branch that files are committed to."
    )
    log_artifacts: Annotated[LogArtifacts, BeforeValidator(_when)] = Field(
        default="never",
        validation_alias="HF_DAGSHUB_LOG_ARTIFACTS",
        description=(
            "Which files are committed to the repository: never, at the end the last ones, "
            "checkpoints, all."
        ),
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """As MLflow's, then what DagsHub's own client would find."""
        known = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return *known[:2], _Tokens(settings_cls), *known[2:]

    @field_validator("tracking_uri")
    @classmethod
    def _of_a_repository(cls, uri: str) -> str:
        if _REPOSITORY.fullmatch(urlsplit(uri).path) is None:
            raise ValueError(
                "must be the address of a repository's MLflow, such as "
                "https://dagshub.com/OWNER/NAME.mlflow; for any other server use the sink mlflow"
            )
        return uri

    @property
    def api(self) -> str:
        """Where DagsHub's own interface is."""
        parts = urlsplit(self.tracking_uri)
        base = _REPOSITORY.fullmatch(parts.path)
        assert base is not None
        return f"{parts.scheme}://{parts.netloc}{base['base']}/api/v1"

    @property
    def owner_and_name(self) -> str:
        """The repository as OWNER/NAME."""
        found = _REPOSITORY.fullmatch(urlsplit(self.tracking_uri).path)
        assert found is not None
        return f"{found['owner']}/{found['name']}"

    @property
    def token(self) -> str:
        """The access token, whichever way it was given; "" without one."""
        for secret in (self.user_token, self.tracking_token):
            if secret is not None:
                return secret.get_secret_value()
        return ""
