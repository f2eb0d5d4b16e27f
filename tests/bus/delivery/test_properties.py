"""Whatever a destination answers and whoever dies when: nothing is lost, and counts add up."""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import (
    JOURNAL_FOLDER,
    Backoff,
    BatchLimits,
    Event,
    MetricsLogged,
    MisconfiguredError,
    Pace,
    RejectedError,
    RunInfo,
    UnavailableError,
    encode,
    list_cursors,
)
from bus._dead import DeadLetters
from bus._journal import Journal
from tests.bus.delivery.conftest import Journalled, ScriptedSink

EXAMPLES = 60 * int(os.environ.get("HOTLOOP_SOAK", "1"))

FAILURES = ["unavailable", "applied, then unavailable", "wish", "misconfigured", "bug", "part"]
answers = st.lists(st.sampled_from(["fine"] * 6 + [*FAILURES, "dies"]), max_size=40)


class Dies(BaseException):
    """The process is killed here."""


class Moody(ScriptedSink):
    """Answers by the script; recognises what it has got already, as a sink that promises once."""

    def __init__(self, script, poison, server):
        super().__init__()
        self.script, self.poison, self.server = script, poison, server

    async def write(self, batch, state):
        answer = self.script.pop(0) if self.script else "fine"
        numbers = [record.event.step for record in batch]
        if answer == "dies":
            raise Dies
        if answer == "unavailable":
            raise UnavailableError("down")
        if answer == "wish":
            raise UnavailableError("busy", retry_after=5)
        if answer == "misconfigured":
            raise MisconfiguredError("wrong key")
        if answer == "bug":
            raise ValueError("a bug")
        if self.poison & set(numbers):
            raise RejectedError("no")
        if answer == "part" and len(numbers) > 1:
            self.server.update(numbers[:1])
            await batch.commit(1, state)
            raise UnavailableError("in the middle")
        self.server.update(numbers)
        if answer == "applied, then unavailable":
            raise UnavailableError("the answer was lost")
        return state


def journal(folder: Path, events: Sequence[Event]) -> Journalled:
    """A run of these events and nothing else, all of them journalled."""
    run_dir = folder / "run"
    run_dir.mkdir()
    RunInfo.new("run", None).save(run_dir)
    written = Journal(
        run_dir / JOURNAL_FOLDER,
        rank=0,
        attempt=1,
        segment_bytes=1 << 20,
        buffer_bytes=1 << 20,
        quota_bytes=None,
    )
    for event in events:
        written.append(encode(event), event.time)
    written.flush(force=True)
    written.close()
    return Journalled(run_dir)


async def deliver(run: Journalled, sink: Moody, count: int) -> bool:
    """Deliver until the end or a death; tell whether it came to the end."""
    pace = Pace(look=5.0, rearm=30.0, backoff=Backoff(first=0.1, ceiling=1.0))
    delivery = run.delivery(sink, pace=pace)

    def at_the_end() -> bool:
        position = delivery.cursor.position(1, 0)
        return position.delivered == count and not position.parts

    async def finish() -> None:
        while not at_the_end():  # noqa: ASYNC110 - virtual time
            await anyio.sleep(5)
        delivery.finish("finished", anyio.current_time() + 3600)

    died = False
    async with anyio.create_task_group() as group:
        group.start_soon(finish)
        try:
            await delivery.run()
        except Dies:
            died = True
        group.cancel_scope.cancel()
    return not died


@pytest.mark.timeout(2 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    count=st.integers(1, 60),
    size=st.integers(1, 20),
    script=answers,
    poison=st.frozensets(st.integers(0, 59), max_size=5),
)
def test_nothing_is_lost(count, size, script, poison):
    """Each record is taken or a dead letter, the poisoned ones alone are dead, counts add up."""
    poison = set(poison) & set(range(count))
    server: Counter[int] = Counter()
    kind = type("Sized", (Moody,), {"limits": BatchLimits(events=size, age=0.0)})
    with tempfile.TemporaryDirectory() as folder:
        steps = [MetricsLogged(step=n, metrics={"n": float(n)}) for n in range(count)]
        run = journal(Path(folder), steps)
        script = list(script)
        for _ in range(42):
            sink = kind(script, poison, server)
            clock = trio.testing.MockClock(autojump_threshold=0)
            if anyio.run(
                deliver, run, sink, count, backend="trio", backend_options={"clock": clock}
            ):
                break
        cursor = list_cursors(run.dir)["scripted"]
        letters = [record.event.step for _, record in DeadLetters(run.dir, "scripted").read()]

    assert set(server) == set(range(count)) - poison
    assert set(letters) == poison
    assert cursor.closed == "finished"
    assert cursor.positions["a1-rank0"].delivered == count
    assert cursor.positions["a1-rank0"].parts == []
    assert cursor.counts.delivered + cursor.counts.dead == count
