"""The task that a run is written to: its state, and what is sent to it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from bus import MisconfiguredError, Outcome, Stop
from sinks._clearml_answers import TaskStateError
from sinks._clearml_files import Files
from sinks._clearml_plan import Events, Parameters, Step, Upload
from sinks._clearml_server import ClearmlServer, RemoteTask
from sinks._clearml_state import Memory
from sinks._clearml_watch import TaskWatch
from sinks._http import HttpClient

_CALL: Final[dict[Outcome, str]] = {
    "finished": "completed",
    "failed": "failed",
    "crashed": "failed",
    "stopped": "stopped",
    "preempted": "stopped",
}


class OpenTask:
    """A task that takes events.

    Args:
        http: The client of the sink.
        server: The API server.
        task: The task as it was found or made.
        project: Its project's name.
        host: Address of the file server.
        packing: Where an archive may be made.
        keep: How many checkpoints stay there; None for all.
        ask: Asks the training to stop.
        ours: Whether the run ends the task.

    Attributes:
        begun: Whether the run is under way as far as the task knows.
        watch: Hears when somebody ends it.
    """

    def __init__(
        self,
        http: HttpClient,
        server: ClearmlServer,
        task: RemoteTask,
        *,
        project: str,
        host: str,
        packing: Path,
        keep: int | None,
        ask: Callable[[Stop], object],
        ours: bool,
    ) -> None:
        self.task_id: str = task.task_id
        self.begun: bool = False
        self.watch: TaskWatch = TaskWatch(server, task.task_id, ask, ours=ours)
        self._server = server
        self._keep = keep
        self._files = Files(
            http, server, task, project=project, host=host, packing=packing, edit=self._edit
        )

    async def begin(self) -> None:
        """Say that it is in progress, whatever it was before.

        Raises:
            MisconfiguredError: It was published, and so is closed for good.
        """
        try:
            await self._server.change(self.task_id, "started")
        except TaskStateError as error:
            if (await self._server.task(self.task_id)).status != "failed":
                raise MisconfiguredError(str(error), fix="begin a new run") from error
            await self._server.change(self.task_id, "started", force=True)

    async def take(self, step: Step, memory: Memory) -> None:
        """Send what a batch's plan says next, and remember the models that it made."""
        if isinstance(step, Events):
            await self._server.send(step.lines)
        elif isinstance(step, Parameters):
            items: list[JsonValue] = [*step.items]
            await self._edit("edit_hyper_params", {"hyperparams": items, "force": True})
        else:
            await self.store(step, memory)

    async def store(self, upload: Upload, memory: Memory) -> None:
        """Upload a file or a folder; of checkpoints the oldest go, if there are too many."""
        model = await self._files.store(upload)
        if model is None or not upload.checkpoint or self._keep is None:
            return
        memory.models = [*(each for each in memory.models if each != model), model]
        while len(memory.models) > self._keep:
            await self._files.remove(*memory.models[0])
            del memory.models[0]

    async def end(self, outcome: Outcome, *, reason: str, message: str) -> None:
        """Say how the run ended; what somebody else has said already stays, if it is the same."""
        call = _CALL[outcome]
        try:
            await self._server.change(self.task_id, call, reason=reason, message=message)
        except TaskStateError:
            if (await self._server.task(self.task_id)).status not in (call, "published"):
                await self._server.change(
                    self.task_id, call, reason=reason, message=message, force=True
                )

    def release(self) -> None:
        """Let go of what is being uploaded."""
        self._files.release()

    async def _edit(self, call: str, body: Mapping[str, JsonValue]) -> None:
        """Change the task; one that is over is begun again, and ended after it if the run is."""
        try:
            await self._server.edit(self.task_id, call, body)
        except TaskStateError:
            if self.begun:
                # Whoever stopped it a moment ago is heard before that cannot be seen any more.
                await self.watch.look()
            before = await self._server.task(self.task_id)
            await self.begin()
            await self._server.edit(self.task_id, call, body)
            if not self.begun and before.status in _CALL.values():
                await self._server.change(self.task_id, before.status, message=before.message)
