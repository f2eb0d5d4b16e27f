"""Where a W&B server is and how a run is to be shown there.

Arguments win over the environment, that over the settings files (`wandb/settings` here, then
`~/.config/wandb/settings`) and a key in `.netrc` over one in such a file. The variables are those
of W&B's own client and of Transformers' callback.
"""

import netrc
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from annotated_types import Gt, Le
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from bus import SwitchedOffError
from sinks._service_settings import FALSE, TRUE, Names, ServiceSettings, read_ini, taken_apart, word

Resume: TypeAlias = Literal["allow", "must", "never"]
LogModel: TypeAlias = Literal["false", "end", "checkpoint"]
Mode: TypeAlias = Literal["online", "offline"]

HOSTED: Final = "https://api.wandb.ai"

_UPSTREAM: Final = ("api.wandb.ai", "api.forge.coreweave.com")
"""Names under which the hosted service is known, in `.netrc` too."""
_KEY: Final = re.compile(r"(?:\w+-)?[\w-]{40,}")
_TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
_RUN_ID: Final = re.compile(r"[^:;,#?/'\s](?:[^:;,#?/']{0,126}[^:;,#?/'\s])?")
_PROJECT: Final = re.compile(r"[^/\\#?%:]{1,128}")
_FILE_KEYS: Final = ("base_url", "mode", "project", "entity", "api_key")


def _resume(value: object) -> object:
    """WANDB_RESUME may also be auto, a yes or a no; ours always remembers its run's id."""
    told = word(value)
    return "allow" if told in TRUE | FALSE | {"auto"} else told


def _log_model(value: object) -> object:
    """WANDB_LOG_MODEL was yes or no once."""
    told = word(value)
    return "end" if told in TRUE else "false" if told in FALSE else told


def _mode(value: object) -> object:
    told = word(value)
    if told == "disabled":
        raise SwitchedOffError("WANDB_MODE is disabled")
    if told == "shared":
        raise ValueError("'shared' leaves no run for this sink; leave the sink out, or set online")
    return "offline" if told == "dryrun" else told


def settings_files() -> Iterator[Path]:
    """The files that W&B's own client reads, those that win first."""
    yield Path(os.environ.get("WANDB_DIR") or ".") / "wandb" / "settings"
    folder = os.environ.get("WANDB_CONFIG_DIR")
    yield (Path(folder) if folder else Path.home() / ".config" / "wandb") / "settings"


def read_settings(path: Path) -> dict[str, str]:
    """What a settings file says; {} where there is none that can be read."""
    section = read_ini(path).get("default", {})
    return {key: section[key] for key in _FILE_KEYS if section.get(key)}


def netrc_key(host: str) -> str | None:
    """The key that `.netrc` has for a host; for the hosted service, under any of its names."""
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    names = [host, *_UPSTREAM] if host in _UPSTREAM else [host]
    for path in files:
        try:
            entries = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        found = next((entries[name][2] for name in names if name in entries), None)
        if found:
            return found
    return None


class WandbSettings(ServiceSettings):
    """Settings of the W&B sink; the variables are `WANDB_` and the name in capitals."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="WANDB_", env_ignore_empty=True, populate_by_name=True
    )

    base_url: str = Field(default=HOSTED, description="Address of the server.")
    api_key: SecretStr | None = Field(
        default=None, description="Key of the account; also looked for in .netrc."
    )
    entity: str | None = Field(default=None, description="User or team; the key's own by default.")
    project: str | None = Field(default=None, description="Project; the run's own by default.")
    run_name: str | None = Field(
        default=None,
        validation_alias="WANDB_NAME",
        description="Name there; the run's own by default.",
    )
    notes: str | None = Field(default=None, description="A text about the run.")
    tags: Names = Field(default=(), description="Tags, separated by commas.")
    run_group: str | None = Field(default=None, description="Group that the run belongs to.")
    job_type: str | None = Field(default=None, description="What kind of job it is in its group.")
    run_id: str | None = Field(
        default=None, description="Id there; made from the run's own by default."
    )
    resume: Annotated[Resume, BeforeValidator(_resume)] = Field(
        default="allow",
        description="Whether run_id may (allow), must or must never exist before this run.",
    )
    mode: Annotated[Mode, BeforeValidator(_mode)] = Field(
        default="online", description="offline sends nothing; `hotloop sync` does later."
    )
    log_model: Annotated[LogModel, BeforeValidator(_log_model)] = Field(
        default="false",
        description="Which checkpoints are uploaded: false, the last one at the end, checkpoint.",
    )
    host: str | None = Field(default=None, description="Host shown there; this one by default.")
    username: str = Field(default="", description="Sent along, for keys of a service account.")
    user_email: str = Field(default="", description="Sent along, for keys of a service account.")
    heartbeat: Annotated[float, Gt(0), Le(240)] = Field(
        default=30.0,
        validation_alias="HOTLOOP_WANDB_HEARTBEAT",
        description=(
            "Seconds of silence after which a sign of life is sent, which also hears the stop "
            "button; the server takes a run for crashed after 300."
        ),
    )
    rewrite: bool | None = Field(
        default=None,
        validation_alias="HOTLOOP_WANDB_REWRITE",
        description=(
            "Whether metrics are renamed as Transformers does: `eval_loss` to `eval/loss`, "
            "`test_loss` to `test/loss`, any other to `train/...`; by default if it is "
            "`runtime.Trainer` that trains."
        ),
    )

    @classmethod
    def _elsewhere(cls, known: Mapping[str, object]) -> dict[str, object]:
        """What stands in W&B's settings files and in `.netrc`."""
        found: dict[str, object] = {}
        for path in settings_files():
            found = {**read_settings(path), **found}
        base = str(known.get("base_url") or found.get("base_url") or HOSTED)
        if not known.get("api_key"):
            try:
                host = urlsplit(base).hostname or ""
            except ValueError:
                host = ""
            if key := netrc_key(host):
                found["api_key"] = key
        if os.environ.get("WANDB_INSECURE_DISABLE_SSL", "").lower() in TRUE:
            found["verify"] = False
        if seconds := os.environ.get("WANDB_HTTP_TIMEOUT"):
            found["timeout"] = seconds
        return found

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, data: dict[str, object]) -> dict[str, object]:
        if os.environ.get("WANDB_DISABLED", "").lower() in TRUE:
            raise SwitchedOffError("WANDB_DISABLED is set")
        return data

    @model_validator(mode="after")
    def _has_key(self) -> "WandbSettings":
        if self.api_key is None and self.mode == "online":
            raise ValueError("set api_key (or the environment variable WANDB_API_KEY)")
        if self.resume == "must" and self.run_id is None:
            raise ValueError(
                "resume='must' needs run_id (or the environment variable WANDB_RUN_ID)"
            )
        return self

    @field_validator("base_url")
    @classmethod
    def _served(cls, url: str) -> str:
        parts = taken_apart(url.strip())
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise ValueError("must be an http:// or https:// address without credentials")
        if parts.netloc == "forge.coreweave.com":
            return "https://api.forge.coreweave.com"
        return url.strip().rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        plain = key.get_secret_value().strip()
        if not _KEY.fullmatch(plain) and not _TOKEN.fullmatch(plain):
            raise ValueError("is no key of W&B's, which has 40 characters or more")
        return SecretStr(plain)

    @field_validator("run_id")
    @classmethod
    def _id(cls, run_id: str | None) -> str | None:
        if run_id is not None and not _RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} must have none of :;,#?/' and no blanks around it")
        return run_id

    @field_validator("project")
    @classmethod
    def _project(cls, project: str | None) -> str | None:
        if project is not None and not _PROJECT.fullmatch(project):
            raise ValueError(f"{project!r} must have 1 to 128 characters and none of /\\#?%:")
        return project
