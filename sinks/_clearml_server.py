"""The calls of ClearML's API that a run needs, as its own client makes them.

Every call may be repeated: what it makes it looks for first, or the server replaces what is there.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from socket import gethostname
from typing import Final

from pydantic import JsonValue, SecretStr

from bus import MisconfiguredError, RejectedError
from sinks._answers import Answer
from sinks._authorization import basic, bearer, secret
from sinks._clearml_settings import ClearmlSettings
from sinks._clearml_values import Item
from sinks._http import HttpClient
from sinks._json_answers import items, mapping, text

log = logging.getLogger("sinks")

_VERSION: Final = "v2.23"
_SHOWN: Final = ["id", "name", "project", "status", "status_message"]
_CREATED_BY: Final = "Created by task id: "


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task as the server has it.

    Attributes:
        message: What the server says about the status, such as who stopped it.
    """

    task_id: str
    name: str
    project_id: str
    status: str
    message: str = ""


class ClearmlServer:
    """An API server.

    Args:
        http: The client of the sink.
        settings: Where it is, and who asks.
    """

    def __init__(self, http: HttpClient, settings: ClearmlSettings) -> None:
        self._http = http
        self._settings = settings
        self._token: SecretStr | None = None

    def headers(self) -> dict[str, str]:
        """Headers that authenticate, once there is a token."""
        return bearer(secret(self._token))

    async def login(self) -> None:
        """Get a token for the keys, or a newer one for the token of the settings."""
        settings = self._settings
        if settings.auth_token is not None:
            headers = bearer(secret(settings.auth_token))
        else:
            headers = basic(secret(settings.api_access_key), secret(settings.api_secret_key))
        answer = await self._http.post(f"{settings.api_host}/auth.login", json={}, headers=headers)
        self._token = SecretStr(text(_data(answer.json()), "token"))

    async def authorized(self, send: Callable[[Collection[int]], Awaitable[Answer]]) -> Answer:
        """Send a request; if the token is not valid any more, once more with a new one.

        Args:
            send: Sends it; told which statuses are to come back instead of being raised.
        """
        if self._token is None:
            await self.login()
        answer = await send((401,))
        if answer.status != 401:
            return answer
        await self.login()
        return await send(())

    async def find_project(self, name: str) -> str | None:
        """The id of a project, if there is one of that name."""
        body: Item = {"name": f"^{re.escape(name)}$", "only_fields": ["id"], "search_hidden": True}
        found = items(await self._call("projects.get_all", body), "projects")
        return text(found[0], "id") if found else None

    async def project(self, name: str) -> str:
        """The id of a project, which is made if need be."""
        found = await self.find_project(name)
        if found is not None:
            return found
        try:
            made = await self._call("projects.create", {"name": name, "description": ""})
            return text(made, "id")
        except RejectedError as error:  # somebody was faster, or the name is impossible
            found = await self.find_project(name)
            if found is None:
                raise MisconfiguredError(str(error), fix="choose another project") from error
            return found

    async def project_name(self, project_id: str) -> str:
        """What a project is called; "" for that of a task that has none."""
        if not project_id:
            return ""
        answer = await self._call("projects.get_by_id", {"project": project_id})
        return text(mapping(answer.get("project")), "name")

    async def task(self, task_id: str) -> RemoteTask:
        """A task.

        Raises:
            MisconfiguredError: There is none of that id.
        """
        answer = await self._call("tasks.get_all", {"id": [task_id], "only_fields": _shown()})
        tasks = items(answer, "tasks")
        if not tasks:
            raise MisconfiguredError(
                f"there is no task {task_id}", fix="begin a new run, or name another task"
            )
        return _task(tasks[0])

    async def find_task(self, project_id: str, mark: str) -> RemoteTask | None:
        """The task of a project whose comment contains this mark."""
        body: Item = {
            "project": [project_id],
            "_all_": {"fields": ["comment"], "pattern": re.escape(mark)},
            "only_fields": _shown(),
        }
        tasks = items(await self._call("tasks.get_all", body), "tasks")
        return _task(tasks[0]) if tasks else None

    async def create_task(self, project_id: str, name: str, mark: str) -> RemoteTask:
        """Make a task that no agent runs, and that `find_task` finds by this mark."""
        settings = self._settings
        body: Item = {
            "name": name,
            "type": settings.task_type,
            "project": project_id,
            "system_tags": ["development"],
            "tags": list(settings.tags),
            "comment": f"{settings.comment}\n\n{mark}".strip(),
        }
        made = await self._call("tasks.create", body)
        return RemoteTask(text(made, "id"), name, project_id, "created")

    async def change(
        self, task_id: str, to: str, *, reason: str = "", message: str = "", force: bool = False
    ) -> None:
        """Tell a task that it is `started`, `stopped`, `completed` or `failed`.

        Raises:
            TaskStateError: From its state it cannot become that, and it was not forced to.
        """
        body: Item = {"task": task_id, "force": force}
        body |= {"status_reason": reason, "status_message": message}
        await self._call(f"tasks.{to}", body)

    async def edit(self, task_id: str, call: str, body: Mapping[str, JsonValue]) -> None:
        """Change what a task consists of.

        Raises:
            TaskStateError: It is over.
        """
        await self._call(f"tasks.{call}", {"task": task_id, **body})

    async def ping(self, task_id: str) -> None:
        """Tell that the task is alive; the server ends those that are silent for two hours."""
        await self._call("tasks.ping", {"task": task_id})

    async def send(self, lines: list[bytes]) -> None:
        """Add events.

        Raises:
            RejectedError: The server did not take all of them.
        """
        answer = await self._call("events.add_batch", b"\n".join(lines) + b"\n")
        if answer.get("errors"):
            raise RejectedError(
                f"{answer['errors']} of {len(lines)} events were refused: "
                f"{str(answer.get('errors_info'))[:500]}"
            )

    async def model(self, task: RemoteTask, name: str, uri: str, *, package: bool) -> str:
        """The id of the model at this address, which is made if there is none."""
        found = items(
            await self._call("models.get_all", {"uri": [uri], "only_fields": ["id"]}), "models"
        )
        if found:
            return text(found[0], "id")
        body: Item = {
            "uri": uri,
            "name": name,
            "task": task.task_id,
            "project": task.project_id,
            "framework": "PyTorch",
            "ready": True,
            "labels": {},
            "comment": f"{_CREATED_BY}{task.task_id}",
            # By this tag ClearML's client knows that it has to unpack the file.
            "system_tags": ["package"] if package else [],
        }
        return text(await self._call("models.create", body), "id")

    async def delete_model(self, model_id: str) -> None:
        """Delete a model, but not its file; one that is gone is no error."""
        try:
            await self._call("models.delete", {"model": model_id, "force": True})
        except RejectedError as error:
            log.debug("the model %s was not deleted: %s", model_id, error)

    def page(self, task: RemoteTask) -> str:
        """Where a person can look at a task."""
        return f"{self._settings.pages}/projects/{task.project_id}/tasks/{task.task_id}/output/log"

    async def _call(self, call: str, body: Item | bytes) -> Mapping[str, JsonValue]:
        lines = isinstance(body, bytes)
        kind = "application/json-lines" if lines else "application/json"

        async def send(good: Collection[int]) -> Answer:
            return await self._http.post(
                f"{self._settings.api_host}/{_VERSION}/{call}",
                json=None if isinstance(body, bytes) else body,
                content=body if isinstance(body, bytes) else None,
                headers={"content-type": kind, **_client()},
                good=good,
            )

        return _data((await self.authorized(send)).json())


def _client() -> dict[str, str]:
    return {"x-clearml-worker": gethostname(), "x-clearml-client": "hotloop"}


def _shown() -> list[JsonValue]:
    return [*_SHOWN]


def _data(answer: JsonValue) -> Mapping[str, JsonValue]:
    return mapping(mapping(answer).get("data"))


def _task(shown: Mapping[str, JsonValue]) -> RemoteTask:
    return RemoteTask(
        task_id=text(shown, "id"),
        name=str(shown.get("name") or ""),
        project_id=str(shown.get("project") or ""),
        status=text(shown, "status"),
        message=str(shown.get("status_message") or ""),
    )
