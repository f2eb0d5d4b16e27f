"""Sends what a batch means, each kind of data for itself: one that has to wait holds up no other.

Comet limits metrics, parameters, console lines and everything else apart, and says after a 429 how
long it wants no more of that kind. A kind keeps its order: what is behind something that waits,
waits too. Records stay unacknowledged until all of what they mean is there; how far the other kinds
are ahead of that is remembered, so that nothing which Comet appends is sent twice.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

import anyio

from bus import Batch
from sinks._comet_answers import ThrottledError
from sinks._comet_assets import Assets
from sinks._comet_plan import Kind, Stretch, requests
from sinks._comet_remote import RemoteExperiment
from sinks._comet_server import CometServer
from sinks._comet_state import Memory

Lane: TypeAlias = Callable[[Stretch, Memory], Awaitable[None]]


class Pauses:
    """Until when Comet wants no more of a kind, on the event loop's clock."""

    def __init__(self) -> None:
        self._until: dict[Kind, tuple[float, str]] = {}

    def add(self, kind: Kind, error: ThrottledError) -> None:
        """Comet said so."""
        self._until[kind] = anyio.current_time() + (error.retry_after or 0.0), str(error)

    def error(self, kind: Kind) -> ThrottledError | None:
        """What it means to send this kind now; None if it may be sent."""
        until, words = self._until.get(kind, (0.0, ""))
        left = until - anyio.current_time()
        return ThrottledError(words, retry_after=left) if left > 0 else None


class Progress:
    """What is remembered of a batch before all of it is there.

    Args:
        batch: The batch.
        memory: What had been acknowledged before it.
    """

    def __init__(self, batch: Batch, memory: Memory) -> None:
        self._batch = batch
        self._acknowledged = memory.model_copy(deep=True)
        self._counted: dict[str, int] = {}

    def begin(self, memory: Memory) -> None:
        """A stretch has been translated; what is left out from here on is known for good."""
        self._counted = dict(memory.left_out)

    async def note(self, memory: Memory, place: str, done: int) -> None:
        """So many files or points at a place are there."""
        memory.partly[place] = self._acknowledged.partly[place] = done
        await self._remember(memory)

    async def ahead(self, memory: Memory, kinds: Collection[Kind], seq: int) -> None:
        """These kinds are there up to a record; something else before it waits."""
        for kind in kinds:
            furthest = max(seq, memory.ahead.get(kind, 0))
            memory.ahead[kind] = self._acknowledged.ahead[kind] = furthest
        await self._remember(memory)

    async def acknowledge(self, memory: Memory, count: int) -> None:
        """The first records are there, with all of what they mean."""
        await self._batch.commit(count, memory.state())
        self._acknowledged = memory.model_copy(deep=True)

    async def _remember(self, memory: Memory) -> None:
        for reason, count in memory.left_out.items():
            if new := count - self._counted.get(reason, 0):
                self._acknowledged.leave_out(reason, new)
        self._counted = dict(memory.left_out)
        await self._batch.commit(0, self._acknowledged.state())


class Sender:
    """Sends the stretches of one batch, in order.

    Args:
        server: Comet.
        assets: What uploads the files.
        experiment: Where to.
        name: What the run is called.
        pauses: Which kinds must wait.
        progress: What is remembered meanwhile.

    Attributes:
        held: For each kind that waits from some stretch on, what Comet said.
    """

    def __init__(
        self,
        server: CometServer,
        assets: Assets,
        experiment: RemoteExperiment,
        name: str,
        *,
        pauses: Pauses,
        progress: Progress,
    ) -> None:
        self.held: dict[Kind, ThrottledError] = {}
        self._server = server
        self._assets = assets
        self._experiment = experiment
        self._name = name
        self._pauses = pauses
        self._progress = progress
        self._lanes: dict[Kind, Lane] = {
            "else": self._else,
            "parameter": self._parameters,
            "output": self._output,
            "metric": self._metrics,
        }

    async def send(self, stretch: Stretch, memory: Memory) -> None:
        """Send what of a stretch is not there yet and need not wait.

        What Comet replaces goes first, what it appends last: when something fails, nothing is there
        twice.

        Raises:
            DeliveryError: Comet cannot be reached, or does not take it.
        """
        self._progress.begin(memory)
        for kind in stretch.kinds:
            if stretch.last > memory.ahead.get(kind, 0) and not self._waits(kind):
                try:
                    await self._lanes[kind](stretch, memory)
                except ThrottledError as error:
                    self._pauses.add(kind, error)
                    self.held[kind] = error
        for point in stretch.points:
            name, step = point["metricName"], point["step"]
            if isinstance(name, str) and isinstance(step, int):
                memory.steps[name] = max(step, memory.steps.get(name, step))
        if self.held:
            free = self._lanes.keys() - self.held.keys()
            await self._progress.ahead(memory, free, stretch.last)

    def _waits(self, kind: Kind) -> bool:
        if kind not in self.held and (error := self._pauses.error(kind)) is not None:
            self.held[kind] = error
        return kind in self.held

    async def _else(self, stretch: Stretch, memory: Memory) -> None:
        async def note(place: str, done: int) -> None:
            await self._progress.note(memory, place, done)

        server, key = self._server, self._experiment.key
        for name, value in stretch.others.items():
            await server.other(key, name, value)
        if stretch.tags:
            await server.tags(key, stretch.tags)
        for upload in stretch.uploads:
            await self._assets.store(upload, memory, note)
        for title, text in stretch.notes:
            await server.notify(self._experiment, self._name, title, text)

    async def _parameters(self, stretch: Stretch, _memory: Memory) -> None:
        for params in requests(list(stretch.params.values())):
            await self._server.parameters(self._experiment.key, params)

    async def _output(self, stretch: Stretch, _memory: Memory) -> None:
        for lines in requests(stretch.lines):
            await self._server.output(self._experiment.key, lines)

    async def _metrics(self, stretch: Stretch, memory: Memory) -> None:
        """Append points; several requests are needed only for a record of very many metrics."""
        sent = memory.partly.get(stretch.place, 0)
        for points in requests(stretch.points[sent:], self._server.most):
            if sent:
                await self._progress.note(memory, stretch.place, sent)
            await self._server.metrics(self._experiment.key, points)
            sent += len(points)
