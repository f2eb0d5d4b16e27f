"""Where SwanLab is and what a run is called there, found where its own client finds it, too.

Arguments win over the environment, and that over the key that `swanlab login` stored.
"""

import importlib.util
import netrc
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from bus import SinkSettings, SwitchedOffError
from sinks._service_settings import word

Mode: TypeAlias = Literal["online", "offline", "local"]
Resume: TypeAlias = Literal["allow", "must", "never"]

HOSTED: Final = "https://api.swanlab.cn"

_RUN_ID: Final = r'^[^<>:"/\\|?*#%\x00-\x1f\x7f]+$'
_NOT_OF_PROJECTS: Final = re.compile(r"[^0-9a-zA-Z_\-+.]+")


def _mode(value: object) -> object:
    told = word(value)
    if told == "disabled":
        raise SwitchedOffError("SWANLAB_MODE is disabled")
    return "online" if told == "cloud" else told


def _resume(value: object) -> object:
    told = word(value)
    return {"true": "allow", "false": "never"}.get(told, told)


class SwanLabSettings(
    SinkSettings, env_prefix="SWANLAB_", env_ignore_empty=True, populate_by_name=True
):
    """Where SwanLab is, and what a run is called there."""

    api_key: SecretStr | None = Field(
        None, description="key of your account; the one that `swanlab login` stored by default"
    )
    mode: Annotated[Mode, BeforeValidator(_mode)] = Field(
        "online",
        description="`online` (or `cloud`), `offline` for `swanlab sync` later, `local` for "
        "`swanlab watch` on this machine; `disabled` for none",
    )
    log_dir: Path = Field(Path("swanlog"), description="SwanLab's folder")
    project: str | None = Field(
        None,
        max_length=100,
        pattern=r"^[0-9a-zA-Z_\-+.]+$",
        description="project; the run's own by default",
    )
    workspace: str | None = Field(None, description="workspace; your own by default")
    exp_name: str | None = Field(
        None, max_length=512, description="the experiment's name; the run's by default"
    )
    run_id: str | None = Field(
        None,
        max_length=512,
        pattern=_RUN_ID,
        description="the experiment's id; made of the run's by default",
    )
    resume: Annotated[Resume, BeforeValidator(_resume)] = Field(
        "allow",
        description="online, whether a process goes on in the experiment of that id (`allow`), "
        "has to (`must`), or begins one of its own (`never`)",
    )
    api_host: str = Field(HOSTED, description="address of the service")
    web_host: str | None = Field(None, description="address of its pages")
    rewrite: bool | None = Field(
        default=None,
        validation_alias="HOTLOOP_SWANLAB_REWRITE",
        description="Whether metrics are renamed as Transformers does: `eval_loss` to "
        "`eval/loss`, `train_loss` to `single_value/train_loss`, any other to `train/...`; by "
        "default if it is `runtime.Trainer` that trains.",
    )

    @model_validator(mode="before")
    @classmethod
    def _stored(cls, data: dict[str, object]) -> dict[str, object]:
        """Take key and addresses from where `swanlab login` put them, if they belong together."""
        if data.get("api_key"):
            return data
        host = data.get("api_host")
        for folder in _folders():
            for stored, (web, _, key) in _hosts(folder / ".netrc"):
                if key and host in (None, stored):
                    return {"web_host": web, **data, "api_key": key, "api_host": stored}
        return data

    @model_validator(mode="after")
    def _usable(self) -> "SwanLabSettings":
        if self.mode == "online" and self.api_key is None:
            raise ValueError(
                "set api_key (or SWANLAB_API_KEY), or SWANLAB_MODE to offline or local, which "
                "need none"
            )
        if self.mode == "local" and importlib.util.find_spec("swanboard") is None:
            raise ValueError(
                "SWANLAB_MODE=local needs swanlab's dashboard: pip install 'hotloop[swanlab]'"
            )
        return self


def project_name(wish: str | None) -> str:
    """A name that SwanLab takes for a project."""
    return _NOT_OF_PROJECTS.sub("-", wish or "")[:100].strip("-") or "hotloop"


def _folders() -> list[Path]:
    """Where SwanLab's own client looks for its files, here and at home."""
    root = os.environ.get("SWANLAB_ROOT") or os.environ.get("SWANLAB_SAVE_DIR")
    return [Path(".swanlab"), Path(root) if root else Path.home() / ".swanlab"]


def _hosts(path: Path) -> list[tuple[str, tuple[str, str, str]]]:
    """Its entries: address, then address of the pages and key; [] where nothing can be read."""
    try:
        entries = netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return []
    return [
        (host, (login, account or "", key or "")) for host, (login, account, key) in entries.items()
    ]
