"""Writes a run to a DagsHub repository: metrics to its MLflow server, files as commits."""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from bus import (
    DeliveryError,
    MisconfiguredError,
    Promise,
    Response,
    SinkContext,
    SinkSettings,
    State,
    UnavailableError,
)
from sinks._authorization import basic, bearer, secret
from sinks._dagshub_files import Repository, RepositoryFiles
from sinks._dagshub_settings import DagsHubSettings
from sinks._mlflow_artifacts import Artifacts
from sinks._mlflow_server import MlflowServer, RemoteRun
from sinks._mlflow_values import OLD, Limits
from sinks.mlflow import MlflowSink

__all__ = ["DagsHubSettings", "DagsHubSink"]

_AGAIN: Final = re.compile(r'"error"\s*:\s*"server error"')
"""A commit that may succeed when it is made again, as DagsHub's client 0.7.3 does."""


class _Server(MlflowServer):
    """DagsHub's own MLflow, which is of 2023 (2.7.1, DagsHub/client issue 457) or newer."""

    async def limits(self) -> Limits:
        return OLD

    async def greeting(self) -> str:
        return "DagsHub answers"


class DagsHubSink(MlflowSink):
    """DagsHub: metrics, parameters and tags in its MLflow, files in the repository. Delivery: once.

    Everything that the sink `mlflow` says of metrics, names and resuming holds here, and the run
    there ends with ours. Checkpoints and other files are committed below `artifacts/` of the
    branch, versioned with DVC, in commits of up to 100 files or 100 MB; a later run that writes to
    the same branch replaces files of the same name, and Git keeps the earlier ones. What
    is logged as text goes among the artifacts of the MLflow run.
    """

    name: ClassVar[str] = "dagshub"
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="keeps the first",
        note="if DagsHub's MLflow stores runs in a database, which nobody outside has seen",
    )
    help: ClassVar[str] = (
        "set MLFLOW_TRACKING_URI=https://dagshub.com/OWNER/NAME.mlflow and DAGSHUB_USER_TOKEN "
        "(https://dagshub.com/user/settings/tokens)"
    )

    instead_of: ClassVar[tuple[str, ...]] = ("mlflow",)

    Settings: ClassVar[type[SinkSettings]] = DagsHubSettings

    _keeps_all: ClassVar[bool] = True
    _user: str = ""

    @property
    def _options(self) -> DagsHubSettings:
        assert isinstance(self.settings, DagsHubSettings)
        return self.settings

    def headers(self) -> Mapping[str, str]:
        """What MLflow wants: a user with a password, for which a token will do."""
        settings = self._options
        user = settings.tracking_username or self._user
        password = secret(settings.tracking_password) or settings.token
        return basic(user, password) if user else self._bearer()

    def origins(self) -> tuple[str, ...]:
        """DagsHub, whose MLflow and whose own interface are one host."""
        return (self._options.api,)

    def classify(self, response: Response, *, now: float) -> DeliveryError | None:
        """Heed the words about a commit that was refused."""
        error = super().classify(response, now=now)
        if error is not None and _AGAIN.search(response.text):
            return UnavailableError(str(error))
        return error

    async def check(self) -> str:
        """Ask who the token belongs to, and for the experiment."""
        await self._find_user()
        return f"{self._options.owner_and_name}: {await super().check()}"

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
        about = answer.json()
        name = about.get("login") if isinstance(about, dict) else None
        if not isinstance(name, str) or not name:
            raise MisconfiguredError(
                f"{settings.api} does not say whose the token is", fix="set DAGSHUB_USERNAME"
            )
        self._user = name

    def _bearer(self) -> Mapping[str, str]:
        return bearer(self._options.token)

    def _owner(self) -> str:
        return self._user or super()._owner()

    def _make_server(self) -> MlflowServer:
        return _Server(self.http, self._options.tracking_uri)

    def _make_artifacts(self, run: RemoteRun) -> Artifacts:
        settings = self._options
        return RepositoryFiles(
            self.http,
            self._server,
            settings.tracking_uri,
            run.artifact_uri,
            repository=Repository(
                self.http,
                f"{settings.api}/repos/{settings.owner_and_name}",
                settings.branch,
                self._bearer(),
            ),
            run=self._context.name,
        )
