"""Looks after a task while its run is under way: says that it lives, hears that it is to end.

What the states of a task mean is what ClearML's own client makes of them
(`clearml.backend_interface.task.development`, 2.1.12).
"""

from collections.abc import Callable
from typing import Final

from bus import Stop
from sinks._clearml_server import ClearmlServer, RemoteTask

_EVERY: Final = 6
"""Looks between signs of life; with five seconds between looks that is ClearML's half minute."""
_RESETS: Final = 4
"""Looks in a row that must find a task reset until it is believed."""
_SILENT: Final = "non-responsive"
"""How the server says that it ended a task because it heard nothing of it for two hours."""


class TaskWatch:
    """Watches one task.

    Args:
        server: The API server.
        task_id: The task.
        ask: Asks the training to stop; called once.
        ours: Whether the run ends the task. Otherwise whoever else does may complete it.
    """

    def __init__(
        self, server: ClearmlServer, task_id: str, ask: Callable[[Stop], object], *, ours: bool
    ) -> None:
        self._server = server
        self._task_id = task_id
        self._ours = ours
        self._ask = ask
        self._asked = False
        self._resets = 0
        self._looks = 0

    async def tend(self) -> None:
        """Look, and every sixth time tell that the task is alive."""
        if self._looks % _EVERY == 0:
            await self._server.ping(self._task_id)
        self._looks += 1
        await self.look()

    async def look(self) -> None:
        """Ask for a stop if somebody has ended the task.

        One that the server ended because the network was away is begun again.
        """
        task = await self._server.task(self._task_id)
        if task.status == "stopped" and _SILENT in task.message.lower():
            await self._server.change(self._task_id, "started")
        elif (why := self._why(task)) and not self._asked:
            self._asked = True
            self._ask(Stop(reason=why))

    def _why(self, task: RemoteTask) -> str:
        """Why the training should stop; "" if it should not."""
        self._resets = self._resets + 1 if task.status == "created" else 0
        if task.status == "created":
            return "reset in ClearML" if self._resets >= _RESETS else ""
        if task.status == "completed" and not self._ours:
            return ""
        going = task.status in ("in_progress", "queued")
        if going and "stopping" not in task.message.lower():
            return ""
        state = "aborted" if going or task.status == "stopped" else f"marked {task.status}"
        return f"{state} in ClearML" + (f": {task.message}" if task.message else "")
