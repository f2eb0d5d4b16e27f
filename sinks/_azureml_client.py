"""Makes requests to an Azure ML workspace with a token that is good for a while yet.

A job is given a token and renews it at the workspace, as azureml-mlflow does (recorded from version
1.62); elsewhere azure-identity finds one, in a thread and bounded. A token that was given outside
a job stays as it is.
"""

import importlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Unpack
from urllib.parse import quote

import anyio
from pydantic import AnyUrl

from bus import MisconfiguredError, UnavailableError
from sinks._answers import Answer
from sinks._azureml_settings import CLOUDS, AzureMLSettings
from sinks._bodies import in_thread
from sinks._http import HttpClient, HttpSink
from sinks._requests import RequestOptions, UploadOptions
from sinks._web_token import expiry

_LEFT: Final = 95.0
"""Seconds that a token must be good for, as azureml-mlflow wants it."""
_PAUSE: Final = 30.0
"""Seconds between two renewals."""
_PATIENCE: Final = 60.0
"""Seconds that finding a token elsewhere may take."""


class WorkspaceClient(HttpClient):
    """The client of the Azure ML sink.

    Attributes:
        token: What requests to the workspace show.
    """

    def __init__(self, sink: HttpSink, settings: AzureMLSettings) -> None:
        super().__init__(sink)
        given = settings.tracking_token
        self.token: str = "" if given is None else given.get_secret_value()
        self._settings = settings
        self._expires = expiry(self.token)
        self._renewed: float | None = None
        self._credential: Any = None

    async def request(
        self, method: str, url: str | AnyUrl, **options: Unpack[RequestOptions]
    ) -> Answer:
        """As any client's, with a token that is good."""
        await self._renew()
        return await super().request(method, url, **options)

    async def upload(
        self, method: str, url: str | AnyUrl, path: Path, **options: Unpack[UploadOptions]
    ) -> Answer:
        """As any client's, with a token that is good."""
        await self._renew()
        return await super().upload(method, url, path, **options)

    def forget(self) -> bool:
        """Have the token renewed before the next request; False if it just was, or cannot be."""
        now = anyio.current_time()
        if not self._renewable or (self._renewed is not None and now - self._renewed < _PAUSE):
            return False
        self._expires = 0.0
        return True

    @property
    def _run(self) -> str | None:
        return self._settings.run_id or self._settings.job_run_id

    @property
    def _renewable(self) -> bool:
        settings = self._settings
        named = settings.experiment_id or settings.experiment_name
        return settings.tracking_token is None or bool(self._run and named)

    async def _renew(self) -> None:
        good = self._expires is None or self._expires - time.time() > _LEFT
        if (self.token and good) or not self._renewable:
            return
        now = anyio.current_time()
        if self.token and self._renewed is not None and now - self._renewed < _PAUSE:
            return
        self._renewed = now
        if self._settings.tracking_token is None:
            self.token, self._expires = await self._from_identity()
        else:
            self.token, self._expires = await self._from_workspace()

    async def _from_workspace(self) -> tuple[str, float | None]:
        settings = self._settings
        experiment = (
            f"experimentids/{quote(settings.experiment_id, safe='')}"
            if settings.experiment_id
            else f"experiments/{quote(settings.experiment_name or '', safe='')}"
        )
        run = quote(self._run or "", safe="")
        url = f"{settings.workspace.history}/{experiment}/runs/{run}/token"
        found = (await super().request("GET", url)).json()
        token = found.get("token") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(token, str) or not token:
            raise UnavailableError("the workspace's answer holds no token")
        try:
            until = datetime.fromisoformat(str(found.get("expiryTimeUtc")))
        except ValueError:
            return token, expiry(token)
        return token, (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()

    async def _from_identity(self) -> tuple[str, float | None]:
        with anyio.move_on_after(_PATIENCE):
            return await in_thread(self._ask_identity)
        raise UnavailableError(f"azure-identity found no token in {_PATIENCE:g} s")

    def _ask_identity(self) -> tuple[str, float | None]:
        """Ask whatever azure-identity finds: variables, a managed identity, `az login`...; waits.

        It never opens a browser.
        """
        cloud = CLOUDS[self._settings.cloud]
        errors = importlib.import_module("azure.core.exceptions")
        if self._credential is None:
            identity = importlib.import_module("azure.identity")
            self._credential = identity.DefaultAzureCredential(authority=cloud.authority)
        try:
            found = self._credential.get_token(cloud.scope)
        except errors.ClientAuthenticationError as error:
            raise MisconfiguredError(
                f"azure-identity has no token: {' '.join(str(error).split())[:500]}",
                fix="run `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_CLIENT_SECRET",
            ) from error
        except errors.AzureError as error:
            words = " ".join(str(error).split())[:500]
            raise UnavailableError(f"azure-identity: {words}") from error
        return str(found.token), float(found.expires_on)
