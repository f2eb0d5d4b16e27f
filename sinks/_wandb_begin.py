"""Makes a run on a W&B server, or finds the one to go on with and where its lines end."""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from bus import MisconfiguredError, RejectedError, RunStarted, SinkContext
from sinks._values import compact
from sinks._wandb_server import Place, RemoteRun, WandbServer
from sinks._wandb_settings import WandbSettings
from sinks._wandb_state import Memory
from sinks._wandb_values import ABOUT, configuration, decoded, project_of, run_id_of

_FACTS: Final = ("host", "python", "torch", "cuda", "hotloop", "folder")


class Beginning:
    """How a process comes to its run.

    Args:
        server: The server.
        settings: How the run is to be shown, and whether it may be there already.
        context: The run here.
        most: Records that can be under way without being acknowledged.
    """

    def __init__(
        self, server: WandbServer, settings: WandbSettings, context: SinkContext, most: int
    ) -> None:
        self._server = server
        self._settings = settings
        self._context = context
        self._most = most

    async def begin(self, memory: Memory, time: float, started: RunStarted | None = None) -> Place:
        """Make the run or find it; `memory` then says where its lines go on.

        Args:
            memory: What was acknowledged; empty for a run that this one has never written to.
            time: When the first event of a new run happened, in Unix seconds.
            started: The attempt's first event, if that is at hand.

        Raises:
            MisconfiguredError: There is no such run, or there must be none, or the server says no.
        """
        settings = self._settings
        asked = Place(
            memory.entity or settings.entity or "",
            memory.project or settings.project or project_of(self._context.project),
            memory.run_id or settings.run_id or run_id_of(self._context.run_id),
        )
        try:
            remote = await self._server.status(asked)
            is_new = memory.run_id is None
            if is_new:
                self._permit(asked, remote)
            elif remote is None:
                raise MisconfiguredError(
                    f"the run {asked.run_id} is gone", fix="restore it, or begin a new run"
                )
            if remote is None:
                memory.started = time
            else:
                self._go_on(memory, remote, time, started)
            self._describe(memory, started)
            place = await self._server.upsert(
                self._variables(asked, memory, remote, started, is_new=is_new)
            )
        except RejectedError as error:  # about the run and not about any event
            raise MisconfiguredError(
                str(error), fix="check the entity, the project and the run's id"
            ) from error
        memory.run_id, memory.entity, memory.project = place.run_id, place.entity, place.project
        memory.closed = None
        return place

    def _permit(self, asked: Place, remote: RemoteRun | None) -> None:
        resume = self._settings.resume
        if resume == "must" and remote is None:
            raise MisconfiguredError(
                f"there is no run {asked.run_id} in {asked.project}, and resume is 'must'",
                fix="check WANDB_RUN_ID, or set WANDB_RESUME to allow",
            )
        if resume == "never" and remote is not None and not self._is_ours(remote):
            raise MisconfiguredError(
                f"there is a run {asked.run_id} in {asked.project}, and resume is 'never'",
                fix="choose another WANDB_RUN_ID, or set WANDB_RESUME to allow",
            )

    def _is_ours(self, remote: RemoteRun) -> bool:
        """Whether this very run has written there; the answer to it, or the cursor, was lost."""
        about = remote.config.get(ABOUT)
        return isinstance(about, dict) and about.get("run_id") == self._context.run_id

    def _go_on(
        self, memory: Memory, remote: RemoteRun, time: float, started: RunStarted | None
    ) -> None:
        """Find the end of the lines that are there.

        What was sent and not acknowledged comes again at the same offsets, so those stay; where
        there is more, somebody else has written, or our cursor was lost: then its end counts.
        """
        excess = remote.history - memory.history
        was_open = memory.run_id is not None and memory.closed is None
        if was_open and excess <= self._most:
            return
        memory.history = max(memory.history, remote.history)
        memory.events = max(memory.events, remote.events)
        memory.console = max(memory.console, remote.console)
        if excess > 0:
            memory.step = max(memory.step, remote.step + 1)
            resumed = started is not None and started.resumed_from_step is not None
            if memory.run_id is not None or self._is_ours(remote) or resumed:
                memory.floor = max(memory.floor, remote.global_step)
        if memory.run_id is None:
            memory.started = time - remote.runtime
            kept = {key: value for key, value in remote.config.items() if key != ABOUT}
            memory.config, memory.summary = compact(kept), compact(remote.summary)

    def _describe(self, memory: Memory, started: RunStarted | None) -> None:
        facts = {} if started is None else started.facts
        told = {key: str(facts[key]) for key in _FACTS if facts.get(key) is not None}
        memory.about = {**memory.about, **told, "run_id": self._context.run_id}

    def _variables(
        self,
        asked: Place,
        memory: Memory,
        remote: RemoteRun | None,
        started: RunStarted | None,
        *,
        is_new: bool,
    ) -> dict[str, JsonValue]:
        """What UpsertBucket is sent; what it is not sent stays as people have edited it there."""
        settings = self._settings
        found: dict[str, JsonValue] = {
            "name": asked.run_id,
            "project": asked.project,
            "entity": asked.entity or None,
        }
        if remote is not None:
            found["id"] = remote.storage_id
        if not is_new:
            return found
        name = settings.run_name or (self._context.name if remote is None else None)
        shown: dict[str, JsonValue] = {
            "displayName": name,
            "notes": settings.notes,
            "tags": [*settings.tags] or None,
            "groupName": settings.run_group,
            "jobType": settings.job_type,
            "config": configuration(decoded(memory.config), dict(memory.about), memory.defined),
            **_origin(started.facts if started is not None else {}, settings.host),
        }
        return found | {key: value for key, value in shown.items() if value is not None}


def _origin(facts: Mapping[str, JsonValue], host: str | None) -> dict[str, JsonValue]:
    """Where the run comes from, in the fields that its page has for that."""
    command = facts.get("command")
    program = command[0] if isinstance(command, list) and command else None
    return {
        "host": host or facts.get("host"),
        "program": program,
        "commit": facts.get("git_commit"),
    }
