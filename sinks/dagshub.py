"""Writes a run to a DagsHub repository: metrics to its MLflow server, files as commits."""

from collections.abc import Mapping
from typing import ClassVar

from typing_extensions import override

from bus import MisconfiguredError, Promise, SinkContext, SinkSettings, State
from sinks._dagshub_files import RepositoryFiles
from sinks._dagshub_settings import DagsHubSettings
from sinks._mlflow_artifacts import Artifacts
from sinks._mlflow_server import MlflowServer, RemoteRun
from sinks.mlflow import MlflowSink, basic

__all__ = ["DagsHubSettings", "DagsHubSink"]


class DagsHubSink(MlflowSink):
    """DagsHub: metrics, parameters and tags in its MLflow, files in the repository. Delivery: once.

    Everything that the sink `mlflow` says of metrics, names and resuming holds here. Checkpoints
    and other files are committed below `artifacts/` of the branch, versioned with DVC, one commit
    each. The MLflow run ends with ours; Transformers' callback leaves it running.
    """

    name: ClassVar[str] = "dagshub"
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="keeps the first",
        note="DagsHub's MLflow stores runs in a database",
    )
    help: ClassVar[str] = (
        "set MLFLOW_TRACKING_URI=https://dagshub.com/OWNER/NAME.mlflow and DAGSHUB_USER_TOKEN "
        "(https://dagshub.com/user/settings/tokens)"
    )

    Settings: ClassVar[type[SinkSettings]] = DagsHubSettings

    _user: str = ""

    @property
    @override
    def _options(self) -> DagsHubSettings:
        assert isinstance(self.settings, DagsHubSettings)
        return self.settings

    @override
    def headers(self) -> Mapping[str, str]:
        """Basic authentication, with a token as the password if there is one."""
        token = self._options.token
        if token and not self._options.tracking_username:
            return basic(self._user or token, token)
        return super().headers()

    @override
    def origins(self) -> tuple[str, ...]:
        """The tracking server and DagsHub's interface, which are one host."""
        return (self._options.tracking_uri, self._options.api)

    @override
    async def check(self) -> str:
        """Ask who the token belongs to, and for the experiment."""
        await self._find_user()
        words = await super().check()
        return f"{words}; in {self._options.owner_and_name}"

    @override
    async def open(self, context: SinkContext, state: State) -> State:
        """Find out who the token belongs to, then as MLflow's."""
        await self._find_user()
        return await super().open(context, state)

    async def _find_user(self) -> None:
        """DagsHub's MLflow wants the name that belongs to a token."""
        settings = self._options
        if not settings.token or settings.tracking_username:
            return
        answer = await self.http.get(f"{settings.api}/user", headers=self._bearer())
        try:
            login = answer.json()
        except ValueError:
            login = None
        name = login.get("login") if isinstance(login, dict) else None
        if not isinstance(name, str) or not name:
            raise MisconfiguredError(
                f"{settings.api} does not say whose the token is", fix="set DAGSHUB_USERNAME"
            )
        self._user = name

    def _bearer(self) -> Mapping[str, str]:
        """DagsHub's own interface takes the token itself; a password only as MLflow does."""
        token = self._options.token
        return {"authorization": f"Bearer {token}"} if token else self.headers()

    @override
    def _make_artifacts(self, server: MlflowServer, run: RemoteRun) -> Artifacts:
        settings = self._options
        return RepositoryFiles(
            self.http,
            server,
            settings.tracking_uri,
            run.artifact_uri,
            repository=f"{settings.api}/repos/{settings.owner_and_name}",
            branch=settings.branch,
            headers=self._bearer(),
        )
