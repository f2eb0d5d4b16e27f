"""What every destination must survive, as a pytest base class that a sink's author subclasses."""

import logging
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import pytest

from bus import (
    Backoff,
    Event,
    JournalReader,
    MetricsLogged,
    Outcome,
    Pace,
    RunEnded,
    Sink,
    SinkAccount,
    list_cursors,
    sink_context,
    sync_run,
)
from bus._dead import DEAD_FOLDER
from bus._handover import PlainSink, is_portable
from sinks.testing._faults import (
    FAULTS,
    Fault,
    echo,
    hung_names,
    redirect,
    reset,
    self_signed,
    silent,
    status,
)
from sinks.testing._runs import begin_run, end_run, write_run
from sinks.testing._server import Action, Exchange, Received, Reply, Rule, ScriptedServer, serve

POISON: Final = 1313131313.0
"""A value that the service refuses."""

_ROUNDS: Final = 6
_MEMORY: Final = 100 << 20
_COUNT: Final = 25
_BATCH: Final = 10
_BUDGET: Final = 0.5
_SPARE: Final = 2.0
_STRIKES: Final[dict[str, Action]] = {
    "401": status(401),
    "429": status(429),
    "500": status(500),
    "reset": reset,
    "silent": silent,
}
"""What a server goes on doing beside a run."""


class SinkSuite:
    """Subclass it as `Test...`, give it the sink and the service's double, and run pytest.

    The journal's events are `MetricsLogged(step=n, metrics={"n": n})` for n = 0, 1, 2...; say in
    `received` which of these numbers have arrived. See the docstring of `sinks.testing`.

    Attributes:
        secrets: Every secret that `make_sink` plants; none may show up anywhere.
        rules: What the service demands of each request beside what `service` checks.
        patience: Seconds within which a sink must have given up an answer that does not come.
        refuses: Whether the service refuses single events.
    """

    secrets: ClassVar[Sequence[str]] = ()
    rules: ClassVar[tuple[Rule, ...]] = ()
    patience: ClassVar[float] = 8.0
    refuses: ClassVar[bool] = True

    def make_sink(self, server: ScriptedServer) -> Sink:
        """The sink, sending to `server.url`, with timeouts of a second."""
        raise NotImplementedError

    def received(self, server: ScriptedServer) -> list[float]:
        """The numbers that the service has stored, in its order; from `server.applied`."""
        raise NotImplementedError

    def service(self, request: Received) -> Reply:
        """What the service answers to a request."""
        del request
        return Reply()

    def told_outcome(self, server: ScriptedServer) -> str | None:
        """What the service was told of the run's end; None if this sink tells nothing."""
        del server
        return None

    def is_poisoned(self, request: Received) -> bool:
        """Whether the request carries the event that the service refuses."""
        return str(int(POISON)).encode() in request.body

    @pytest.fixture
    def server(self) -> Iterator[ScriptedServer]:
        """The service's double, strict."""
        with ScriptedServer(self.service, rules=self.rules) as server:
            yield server
            assert server.breaches == []

    @pytest.fixture
    def elsewhere(self) -> Iterator[ScriptedServer]:
        """Somebody else's server."""
        with ScriptedServer() as server:
            yield server

    def test_everything_arrives_once_in_order(self, server: ScriptedServer, tmp_path: Path) -> None:
        """A server without faults holds every number once, over several batches."""
        account = self._sync(write_run(tmp_path / "run", numbers(_COUNT)), server)

        assert account.complete, account
        assert (account.pending, account.dead) == (0, 0)
        assert self.received(server) == list(range(_COUNT))

    def test_connections_are_kept(self, server: ScriptedServer, tmp_path: Path) -> None:
        """Requests one after the other share a connection."""
        self._sync(write_run(tmp_path / "run", numbers(_COUNT)), server)

        assert len({request.client for request in server.requests}) == 1

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
    def test_a_fault_loses_nothing(
        self, fault: Fault, server: ScriptedServer, tmp_path: Path
    ) -> None:
        """After the fault everything is there: in order, and once if the sink promises that."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT))
        server.next(serve, *fault.actions)
        with _bounded_memory():
            account = self._until_complete(run_dir, server)

        assert account.dead == 0, account
        self._check(server)
        faulty, again = server.requests[1], server.requests[2]
        waited = again.time - faulty.time
        assert fault.pause <= waited <= self.patience, f"asked again after {waited:.2f} s"

    @pytest.mark.parametrize("moment", ["at start", "while logging", "at exit"])
    @pytest.mark.parametrize("fault", _STRIKES.values(), ids=_STRIKES.keys())
    def test_training_goes_on(
        self, fault: Action, moment: str, server: ScriptedServer, tmp_path: Path
    ) -> None:
        """Beside a run nothing is raised, it ends in time, and what waits is counted and comes."""
        reached = threading.Event()

        def good(exchange: Exchange) -> None:
            serve(exchange)
            reached.set()

        server.always = fault if moment == "at start" else good
        bus = begin_run(tmp_path / "run")
        sink = self._sink(server)
        bus.add_sink(sink, sink_context(tmp_path / "run"))
        for n, event in enumerate(numbers(_COUNT)):
            if (n, moment) == (_COUNT // 2, "while logging"):
                assert reached.wait(self.patience)
                server.always = fault
            bus.publish(event)
        if moment == "at exit":
            assert reached.wait(self.patience)
            server.always = fault
        began = time.monotonic()
        (account,) = bus.close(_BUDGET, last=lambda: RunEnded(outcome="finished")).sinks
        took = time.monotonic() - began
        end_run(tmp_path / "run", "finished")

        assert took < _BUDGET + _SPARE, f"the end took {took:.1f} s"
        assert account.dead == 0, account
        records = JournalReader(tmp_path / "run").records(types=tuple(sink.wants))
        if account.pending is not None:
            assert account.delivered + account.pending == sum(1 for _ in records), account
        server.always = serve
        self._until_complete(tmp_path / "run", server)
        self._check(server)

    def test_a_server_that_is_down(self, server: ScriptedServer, tmp_path: Path) -> None:
        """Nothing is lost while connections are refused; what waits is counted and comes later."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT))
        server.down()
        account = self._sync(run_dir, server, timeout=1.0)
        assert not account.complete
        assert (account.pending or 0) >= _COUNT, account
        server.up()
        self._until_complete(run_dir, server)

        self._check(server)

    @pytest.mark.parametrize("code", [302, 307])
    def test_a_redirect_tells_nobody_else(
        self, code: int, server: ScriptedServer, elsewhere: ScriptedServer, tmp_path: Path
    ) -> None:
        """A redirect to another host takes no secret along and is no delivery."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT))
        server.next(redirect(f"{elsewhere.url}/elsewhere", code))
        self._until_complete(run_dir, server)

        for request in elsewhere.requests:
            said = f"{request.target} {request.headers} {request.body!r}"
            self._check_secrets("a request to another host", said)
        self._check(server)

    def test_a_server_that_cannot_show_who_it_is(self, tmp_path: Path) -> None:
        """A certificate that nobody vouches for is sent nothing."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT))
        with ScriptedServer(self.service, certificate=self_signed(tmp_path)) as server:
            account = self._sync(run_dir, server, timeout=1.0)

            assert server.requests == []
            assert not account.complete
            assert (account.pending or 0) >= _COUNT, account

    def test_look_ups_that_hang(self, server: ScriptedServer, tmp_path: Path) -> None:
        """A name server that does not answer holds up neither the loop nor the end."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT))
        server.host = "localhost"
        began = time.monotonic()
        with hung_names(2 * self.patience):
            account = self._sync(run_dir, server, timeout=1.5)
            took = time.monotonic() - began
            assert took < self.patience, f"the end took {took:.1f} s"
        assert not account.complete
        assert (account.pending or 0) >= _COUNT, account
        self._until_complete(run_dir, server)

        self._check(server)

    def test_answers_that_never_come(self, server: ScriptedServer, tmp_path: Path) -> None:
        """A server that takes requests and is silent costs each try its timeout."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT))
        server.always = silent
        began = time.monotonic()
        with ExitStack() as stack:
            stack.callback(setattr, server, "always", serve)
            self._sync(run_dir, server, timeout=self.patience)
            tries = len(server.requests)
        took = time.monotonic() - began

        assert tries >= 2, f"one try lasted {took:.1f} s"

    def test_who_goes_on_sends_nothing_twice(self, server: ScriptedServer, tmp_path: Path) -> None:
        """Another process goes on behind the cursor with the state of that point."""
        run_dir = write_run(tmp_path / "run", numbers(_COUNT), outcome="crashed")
        self._until_complete(run_dir, server)
        last = _COUNT - 1
        write_run(run_dir, numbers(40, _COUNT), attempt=2, resumed_from_step=last)
        self._until_complete(run_dir, server)

        assert self.received(server) == list(range(40))

    def test_a_refused_event_is_kept(self, server: ScriptedServer, tmp_path: Path) -> None:
        """What the service will never take becomes a dead letter; all others arrive."""
        if not self.refuses:
            pytest.skip("this service refuses no single events")
        events = numbers(_COUNT)
        events[13] = MetricsLogged(step=13, metrics={"n": POISON})
        run_dir = write_run(tmp_path / "run", events)

        def refuse(exchange: Exchange) -> None:
            poisoned = self.is_poisoned(exchange.request)
            (status(400) if poisoned else serve)(exchange)

        server.always = refuse
        account = self._until_complete(run_dir, server)

        assert account.dead == 1
        letters = (run_dir / DEAD_FOLDER / f"{account.name}.jsonl").read_text().splitlines()
        assert len(letters) == 1
        assert str(int(POISON)) in letters[0]
        assert _first(self.received(server)) == [n for n in range(_COUNT) if n != 13]

    @pytest.mark.parametrize("outcome", ["finished", "failed", "preempted"])
    def test_closing_tells_the_outcome(
        self, outcome: Outcome, server: ScriptedServer, tmp_path: Path
    ) -> None:
        """The cursor, and the service where the sink tells it, know how the run ended."""
        run_dir = write_run(tmp_path / "run", numbers(3), outcome=outcome)
        account = self._until_complete(run_dir, server)

        assert list_cursors(run_dir)[account.name].closed == outcome
        told = self.told_outcome(server)
        assert told in (None, outcome)

    @pytest.mark.parametrize("code", [400, 401, 404, 429, 500])
    def test_secrets_stay_secret(
        self, code: int, server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that repeats all it heard gets no secret into a log, an error or a file."""
        run_dir = write_run(tmp_path / "run", numbers(3))
        server.always = echo(code)
        sink = self._sink(server)
        with caplog.at_level(logging.DEBUG):
            accounts = sync_run(run_dir, [sink], timeout=1.0, pace=_PACE)
        self._check_secrets("the account", repr(accounts))
        self._check_secrets("a repr", f"{sink!r} {sink.settings!r} {sink.settings} {vars(sink)!r}")
        for record in caplog.records:
            self._check_secrets(f"the log {record.name!r}", caplog.handler.format(record))
        for path in run_dir.rglob("*"):
            if path.is_file():
                self._check_secrets(str(path), path.read_text(errors="replace"))

    def test_settings_survive_as_plain_data(self, server: ScriptedServer) -> None:
        """A delivery process builds the same sink from plain data."""
        sink = self._sink(server)
        if not sink.portable:
            pytest.skip("this sink never leaves its process")
        assert is_portable(sink), "the sink's class cannot be imported by its name"
        plain = PlainSink.model_validate_json(PlainSink.of(sink).model_dump_json())
        again = plain.make()

        assert type(again) is type(sink)
        assert again.settings == sink.settings

    def _sink(self, server: ScriptedServer) -> Sink:
        """The sink with batches of ten at once, so that a test of them ends soon."""
        sink = self.make_sink(server)
        limits = sink.limits
        small = replace(limits, events=min(_BATCH, limits.events), age=0.0, rates=())
        vars(sink)["limits"] = small
        return sink

    def _sync(
        self, run_dir: Path, server: ScriptedServer, timeout: float = float("inf")
    ) -> SinkAccount:
        return sync_run(run_dir, [self._sink(server)], timeout=timeout, pace=_PACE)[0]

    def _until_complete(self, run_dir: Path, server: ScriptedServer) -> SinkAccount:
        """Deliver, each time as a new process would, until nothing is left."""
        account: SinkAccount | None = None
        for _ in range(_ROUNDS):
            account = self._sync(run_dir, server, timeout=self.patience)
            if account.complete:
                return account
        raise AssertionError(f"after {_ROUNDS} rounds: {account}")

    def _check(self, server: ScriptedServer) -> None:
        found = self.received(server)
        once = self._sink(server).promise.delivery == "once"
        seen = found if once else _first(found)
        assert seen == list(range(_COUNT)), f"arrived: {found}"

    def _check_secrets(self, where: str, text: str) -> None:
        for secret in self.secrets:
            assert secret not in text, f"a secret stands in {where}"


_PACE: Final = Pace(look=0.02, rearm=0.05, backoff=Backoff(first=0.01, ceiling=0.05))


def numbers(end: int, start: int = 0) -> list[Event]:
    """Events that carry their number."""
    return [MetricsLogged(step=n, metrics={"n": float(n)}) for n in range(start, end)]


def _first(found: Iterable[float]) -> list[float]:
    """The numbers in order of their first arrival."""
    return list(dict.fromkeys(found))


class _bounded_memory:  # noqa: N801 - read as a statement
    """Fails if Python's own memory grows by more than a sensible answer needs."""

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *exception: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < _MEMORY, f"{peak >> 20} MB were held"
