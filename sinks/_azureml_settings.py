"""Which Azure ML workspace a run is written to, and as whom.

Arguments win over the environment. The variables are those that Azure ML sets inside a job, and
MLflow's (read in the source of azureml-mlflow 1.62).
"""

import importlib.util
import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from sinks._mlflow_settings import MlflowSettings

CloudName: TypeAlias = Literal["AzureCloud", "AzureChinaCloud", "AzureUSGovernment"]

_WORKSPACE: Final = re.compile(
    r"/mlflow/v[\d.]+(?P<scope>/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<name>[^/]+))/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cloud:
    """One of Azure's clouds.

    Attributes:
        authority: Who gives tokens.
        scope: What a token is asked for.
        studio: Where people look at runs.
    """

    authority: str
    scope: str
    studio: str


CLOUDS: Final[dict[CloudName, Cloud]] = {
    "AzureCloud": Cloud(
        "login.microsoftonline.com", "https://management.azure.com/.default", "ml.azure.com"
    ),
    "AzureChinaCloud": Cloud(
        "login.chinacloudapi.cn",
        "https://management.chinacloudapi.cn/.default",
        "studio.ml.azure.cn",
    ),
    "AzureUSGovernment": Cloud(
        "login.microsoftonline.us",
        "https://management.usgovcloudapi.net/.default",
        "ml.azure.us",
    ),
}


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace's addresses.

    Attributes:
        tracking: Its MLflow server.
        history: Its runs' tokens and files.
        name: What it is called.
        identity: Subscription, group and workspace, as its pages are asked for.
    """

    tracking: str
    history: str
    name: str
    identity: str


def has_identity() -> bool:
    """Whether azure-identity is installed; looks without importing it."""
    try:
        return importlib.util.find_spec("azure.identity") is not None
    except ModuleNotFoundError:  # there is not even a package `azure`
        return False


class AzureMLSettings(MlflowSettings):
    """Settings of the Azure ML sink; the variables are MLflow's, and those of a job."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="MLFLOW_", env_ignore_empty=True, populate_by_name=True
    )

    tracking_uri: str = Field(
        description="Address: what `az ml workspace show --query mlflow_tracking_uri` says."
    )
    tracking_username: str | None = Field(
        default=None, description="Of no use here: a workspace takes tokens alone."
    )
    tracking_password: SecretStr | None = Field(default=None, description="Of no use here either.")
    tracking_token: SecretStr | None = Field(
        default=None,
        description="A bearer token, as a job has it; otherwise azure-identity finds one.",
    )
    experiment_id: str | None = Field(
        default=None, description="The experiment's id, by which a job's token is renewed."
    )
    job_run_id: str | None = Field(
        default=None,
        validation_alias="AZUREML_RUN_ID",
        description="The run of the job that this is, which the platform begins and ends.",
    )
    cloud: CloudName = Field(
        default="AzureCloud",
        validation_alias="AZUREML_CURRENT_CLOUD",
        description="AzureCloud, AzureChinaCloud or AzureUSGovernment.",
    )
    max_log_params: NonNegativeInt | None = Field(
        default=200, description="How many parameters are sent at most; workspaces refuse more."
    )

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, data: dict[str, object]) -> dict[str, object]:
        """DISABLE_MLFLOW_INTEGRATION means MLflow's callback, not Azure ML's."""
        return data

    @field_validator("tracking_uri")
    @classmethod
    def _served(cls, uri: str) -> str:
        parts = urlsplit(uri.strip())
        if (
            parts.scheme not in ("azureml", "https", "http")
            or not parts.netloc
            or _WORKSPACE.fullmatch(parts.path) is None
        ):
            raise ValueError(
                "must be a workspace's tracking address, such as azureml://westeurope.api.azureml."
                "ms/mlflow/v1.0/subscriptions/.../resourceGroups/.../providers/Microsoft."
                "MachineLearningServices/workspaces/NAME: `az ml workspace show --query "
                "mlflow_tracking_uri`"
            )
        return uri.strip()

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if self.tracking_token is None and not has_identity():
            raise ValueError(
                "set MLFLOW_TRACKING_TOKEN, as Azure ML does inside a job, or install what finds a "
                "token elsewhere: pip install 'hotloop[azureml]'"
            )
        return self

    @property
    def workspace(self) -> Workspace:
        """Addresses, with the version of the interface that is spoken to clients of MLflow 2 and 3.

        What `azureml://` means is https.
        """
        parts = urlsplit(self.tracking_uri)
        found = _WORKSPACE.fullmatch(parts.path)
        assert found is not None
        host = f"{'https' if parts.scheme == 'azureml' else parts.scheme}://{parts.netloc}"
        subscription, group, name = found["subscription"], found["group"], found["name"]
        return Workspace(
            tracking=f"{host}/mlflow/v2.0{found['scope']}",
            history=f"{host}/history/v1.0{found['scope']}",
            name=name,
            identity=f"/subscriptions/{subscription}/resourcegroups/{group}/workspaces/{name}",
        )
