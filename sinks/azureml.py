"""Writes a run to an Azure ML workspace, over the MLflow interface that it has."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from bus import (
    DeliveryError,
    Promise,
    Response,
    SinkContext,
    SinkSettings,
    UnavailableError,
)
from sinks._authorization import bearer
from sinks._azureml_client import WorkspaceClient
from sinks._azureml_files import WorkspaceFiles
from sinks._azureml_settings import CLOUDS, AzureMLSettings
from sinks._http import HttpClient
from sinks._mlflow_artifacts import Artifacts
from sinks._mlflow_server import MlflowServer, RemoteRun
from sinks._mlflow_state import Memory
from sinks._mlflow_values import Limits
from sinks.mlflow import MlflowSink

__all__ = ["AzureMLSettings", "AzureMLSink"]

_LIMITS: Final = Limits(metrics=200, items=200, tag_value=1000)
"""What a workspace takes at once; reported by users in 2020, and in Azure's table of limits."""


class AzureMLSink(MlflowSink):
    """Azure ML: metrics, parameters, tags and files of a workspace's run. Delivery: at least once.

    Everything that the sink `mlflow` says of metrics, names and resuming holds here. Inside a job
    the run is the job's: it is found in the job's environment, its token is renewed, and its status
    stays the platform's affair, also for `hotloop sync` afterwards. Elsewhere the run is made and
    ended by this sink, and azure-identity (the extra `azureml`) finds a token without asking
    anybody.

    A run takes 200 parameters; more are left out and named in the log.
    """

    name: ClassVar[str] = "azure_ml"
    promise: ClassVar[Promise] = Promise(
        delivery="at least once",
        resumed="keeps the first",
        note="nobody has said whether a workspace recognises a repeated batch",
    )
    help: ClassVar[str] = (
        "set MLFLOW_TRACKING_URI to what `az ml workspace show --query mlflow_tracking_uri` says"
    )

    instead_of: ClassVar[tuple[str, ...]] = ("mlflow",)

    Settings: ClassVar[type[SinkSettings]] = AzureMLSettings

    def __init__(self, settings: SinkSettings | None = None, /, **fields: Any) -> None:  # noqa: ANN401 - each sink's own settings
        super().__init__(settings, **fields)
        self._client = WorkspaceClient(self, self._options)
        self.http: HttpClient = self._client

    @property
    def _options(self) -> AzureMLSettings:
        assert isinstance(self.settings, AzureMLSettings)
        return self.settings

    def bind(self, context: SinkContext) -> None:
        """As MLflow's; a nested run inside a job is a child of the job's."""
        super().bind(context)
        settings = self._options
        if settings.nested_run and settings.job_run_id and settings.parent_run_id is None:
            parent = {"parent_run_id": settings.job_run_id}
            self.settings: SinkSettings = settings.model_copy(update=parent)

    def headers(self) -> Mapping[str, str]:
        """The token that is good at the moment."""
        return bearer(self._client.token)

    def origins(self) -> tuple[str, ...]:
        """The workspace, and not its storage."""
        return (self._options.workspace.tracking,)

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """A token may end before its time; it is renewed once before anybody is called."""
        if response.status == 401 and self._client.forget():
            return UnavailableError("HTTP 401: the token is not taken any more, and is renewed")
        return super().classify(response, now=now)

    def _make_server(self) -> MlflowServer:
        return _Server(self._client, self._options)

    def _make_artifacts(self, run: RemoteRun) -> Artifacts:
        return WorkspaceFiles(self._client, self._server, self._options.workspace.history, run)

    def _known_run(self, memory: Memory) -> str | None:
        """A job writes to its own run; the run that is resumed may have been another job's."""
        settings = self._options
        if settings.job_run_id is None or settings.parent_run_id is not None:
            return memory.run_id or (None if settings.parent_run_id else settings.run_id)
        return settings.run_id or settings.job_run_id

    async def _go_on(self, run: RemoteRun, memory: Memory) -> None:
        if run.run_id == self._options.job_run_id:
            memory.borrowed = True
        elif run.run_id != memory.run_id:
            memory.borrowed = False
        await super()._go_on(run, memory)


class _Server(MlflowServer):
    """A workspace, which does not tell its version."""

    def __init__(self, http: WorkspaceClient, settings: AzureMLSettings) -> None:
        self._workspace = settings.workspace
        self._studio = CLOUDS[settings.cloud].studio
        super().__init__(http, self._workspace.tracking)

    async def limits(self) -> Limits:
        return _LIMITS

    async def greeting(self) -> str:
        return f"the workspace {self._workspace.name} answers"

    def page(self, run: RemoteRun) -> str:
        return f"https://{self._studio}/runs/{run.run_id}?wsid={self._workspace.identity}"
