"""Where Comet is, who writes to it, and how a run is to be shown there.

Arguments win over the environment, that over `.env`, and that over the first of `$COMET_CONFIG`,
`./.comet.config` and `~/.comet.config` that has a value. The names are those of Comet's own client
and of Transformers' callback.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from bus import SwitchedOffError
from sinks._service_settings import FALSE, TRUE, Names, ServiceSettings, read_ini, word

Mode: TypeAlias = Literal["get_or_create", "get", "create", "offline"]
LogAssets: TypeAlias = Literal["never", "end", "checkpoints", "all"]

_SERVICE: Final = "https://www.comet.com/clientlib/"
_CONFIG: Final = ".comet.config"
_DRIVE: Final = Path("/content/drive/MyDrive")
"""Where Comet's client looks for its file in a Colab notebook."""
_OTHER: Final = "COMET_LOG_OTHER_"
_EXPERIMENT: Final = re.compile(r"[0-9A-Za-z]{32,50}")
_TRUE: Final = TRUE | {"t", "y"}
_FALSE: Final = FALSE | {"f", "n"}
_DISABLED: Final = "disabled"


def _mode(value: object) -> object:
    """Transformers before version 5 also knew `online`, `offline` and `disabled`."""
    told = word(value)
    if told == _DISABLED:
        raise SwitchedOffError("COMET_MODE is disabled")
    return "get_or_create" if told == "online" else told


def _when(value: object) -> object:
    """COMET_LOG_ASSETS only knows yes, which means at the end, and no."""
    told = word(value)
    return "end" if told in _TRUE else "never" if told in _FALSE else told


def address_in(api_key: str) -> str | None:
    """The server that a key of an installation of one's own names; None for other keys.

    Such a key is `<key>*<JSON with a baseUrl, in base64>`, perhaps without its padding.
    """
    _, star, coded = api_key.partition("*")
    if not star:
        return None
    try:
        found: object = json.loads(base64.b64decode(coded + "=" * (-len(coded) % 4)))
    except (binascii.Error, ValueError):
        return None
    base = cast("dict[str, object]", found).get("baseUrl") if isinstance(found, dict) else None
    return base if isinstance(base, str) else None


def files() -> Iterator[dict[str, str]]:
    """What Comet's client reads from files, by the variables' names; the first one counts."""
    yield _read_env(Path(".env"))
    named = os.environ.get("COMET_CONFIG")
    folders = [*([named] if named else []), ".", str(_DRIVE), "~"]
    for each in folders:
        path = Path(each).expanduser()
        yield _read_config(path / _CONFIG if path.is_dir() else path)


def _read_env(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip().startswith("COMET_"):
            found[name.strip()] = value.strip().strip("'\"")
    return found


def _read_config(path: Path) -> dict[str, str]:
    """The options of an INI file; `api_key` of the section `comet` is COMET_API_KEY."""
    return {
        f"{section}_{option}".upper(): value.strip().strip("'\"")
        for section, options in read_ini(path).items()
        for option, value in options.items()
    }


def _others(known: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(_OTHER).lower(): value
        for name, value in known.items()
        if name.startswith(_OTHER)
    }


class CometSettings(ServiceSettings):
    """Settings of the Comet sink; the variables are `COMET_` and the name in capitals."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="COMET_", env_ignore_empty=True, populate_by_name=True
    )

    api_key: SecretStr = Field(description="The account's key.")
    workspace: str | None = Field(default=None, description="Workspace; the account's by default.")
    project_name: str | None = Field(
        default=None, description="Project; the run's by default, or else Comet's `general`."
    )
    url_override: str | None = Field(
        default=None,
        description="Address of an installation of one's own, with /clientlib/ at its end.",
    )
    experiment_key: str | None = Field(
        default=None, description="The experiment's key, 32 to 50 letters and digits."
    )
    mode: Annotated[Mode, BeforeValidator(_mode)] = Field(
        default="get_or_create",
        description="Whether the experiment of that key may, must or must not be there: "
        "get_or_create, get, create. COMET_START_MODE is read too.",
    )
    online: bool = Field(
        default=True,
        validation_alias="COMET_START_ONLINE",
        description="Without it nothing is sent; the journal keeps everything for `hotloop sync`.",
    )
    experiment_name: str | None = Field(
        default=None,
        validation_alias="COMET_START_EXPERIMENT_NAME",
        description="Name there; the run's own by default.",
    )
    experiment_tags: Names = Field(
        default=(),
        validation_alias="COMET_START_EXPERIMENT_TAGS",
        description="Tags, with commas between them.",
    )
    others: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Single values to show; each COMET_LOG_OTHER_<NAME> is one.",
    )
    log_assets: Annotated[LogAssets, BeforeValidator(_when)] = Field(
        default="never",
        description="Which files are uploaded: never, at the end those that are still there, "
        "checkpoints, all. TRUE means end.",
    )
    rewrite: bool | None = Field(
        default=None,
        validation_alias="HOTLOOP_COMET_REWRITE",
        description="Whether metrics are renamed as Transformers does: `eval_loss` to "
        "`eval/loss`, `test_loss` to `test/loss`, any other to `train/...`; by default if it is "
        "`runtime.Trainer` that trains.",
    )
    notify: bool = Field(
        default=False,
        validation_alias="HOTLOOP_COMET_NOTIFY",
        description="Whether Comet mails alerts to the account's owner.",
    )
    rest: bool = Field(
        default=False,
        validation_alias="HOTLOOP_COMET_REST",
        description="Whether only Comet's documented REST interface is used, which takes one "
        "number a request; for servers that refuse what their own client sends.",
    )
    allow_header_name: str | None = Field(
        default=None, description="A header that a proxy in front of Comet wants."
    )
    allow_header_value: SecretStr | None = Field(default=None, description="Its value.")

    @property
    def offline(self) -> bool:
        """Whether nothing is to be sent for now."""
        return not self.online or self.mode == "offline"

    @property
    def clientlib(self) -> str:
        """The address that Comet's client would use, without a slash at the end."""
        given = self.url_override or address_in(self.api_key.get_secret_value()) or _SERVICE
        return given.rstrip("/") + ("/clientlib" if urlsplit(given).path in ("", "/") else "")

    @property
    def root(self) -> str:
        """The server's address without a path."""
        parts = urlsplit(self.clientlib)
        return f"{parts.scheme}://{parts.netloc}"

    @classmethod
    def _elsewhere(cls, known: Mapping[str, object]) -> dict[str, object]:
        """What stands in Comet's files, and variables that are not named like fields."""
        del known
        told: dict[str, str] = {}
        for each in (dict(os.environ), *files()):
            told = {**each, **told}
        found: dict[str, object] = {}
        for field, info in cls.model_fields.items():
            alias = info.validation_alias
            name = alias if isinstance(alias, str) else f"COMET_{field.upper()}"
            value = told.get(name) or (told.get("COMET_START_MODE") if field == "mode" else None)
            if value:
                found[name if isinstance(alias, str) else field] = value
        if others := _others(told):
            found["others"] = others
        if told.get("COMET_INTERNAL_CHECK_TLS_CERTIFICATE", "").lower() in _FALSE - {""}:
            found["verify"] = False
        return found

    @field_validator("url_override")
    @classmethod
    def _served(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("must be an http:// or https:// address")
        return url

    @field_validator("experiment_key")
    @classmethod
    def _key(cls, key: str | None) -> str | None:
        if key is not None and not _EXPERIMENT.fullmatch(key):
            raise ValueError("must be 32 to 50 letters and digits")
        return key

    @model_validator(mode="after")
    def _complete(self) -> "CometSettings":
        if self.mode == "get" and self.experiment_key is None:
            raise ValueError("mode get goes on with an experiment: set COMET_EXPERIMENT_KEY too")
        if self.rest and self.workspace is None:
            raise ValueError("the REST interface wants the workspace's name: set COMET_WORKSPACE")
        if self.rest and self.notify:
            raise ValueError("the REST interface mails nobody: leave HOTLOOP_COMET_NOTIFY out")
        return self
