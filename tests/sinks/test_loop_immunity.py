"""Whatever becomes of a destination: training goes on, every count is right, the exit is in time.

One test for each fault and each moment at which it strikes: before the run starts, while it logs,
and just before it closes.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from bus import (
    Backoff,
    Cursor,
    JournalReader,
    MetricsLogged,
    Pace,
    RunInfo,
    list_cursors,
    sync_run,
)
from bus._collector import count_waiting, names_of
from bus._feed import Feed, FeedReader
from tests.bus.journal.test_disks import namespace as namespace  # noqa: PLC0414 - a fixture
from tests.interpreter import Ended, Interpreter
from tests.sinks.post_sink import PostSink
from tests.waiting import HANG

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
COUNT = 200
BUDGET = 1.0
MOMENTS = ["at start", "while logging", "at exit"]


@dataclass
class Server:
    """Keeps every row once, and answers as it is told while the fault file exists."""

    fault: Path
    status: int = 200
    rows: dict[tuple[int, int], float] = field(default_factory=dict)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        struck = self.fault.exists()
        if not struck or self.status == 200:
            for attempt, seq, value in orjson.loads(body):
                self.rows[attempt, seq] = value
        handler.send_response(self.status if struck else 200)
        if struck and self.status == 429:
            handler.send_header("retry-after", "1")
        handler.send_header("content-length", "0")
        handler.end_headers()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "fault")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            found.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    found.url = f"http://127.0.0.1:{http.server_address[1]}/"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield found
    http.shutdown()
    http.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port whose queue is full, so that connecting to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
            waiting.append(each)
        yield port
        for each in waiting:
            each.close()


SCRIPT = """
import json, os, resource, signal, socket, sys, time
from pathlib import Path
import runtime
from bus import Gap, JournalReader, MetricsLogged, list_cursors
from tests.sinks.post_sink import PostSink

given = json.loads({given!r})
folder, moment, fault = Path(given["folder"]), given["moment"], given["fault"]

class Numbers:
    def __len__(self):
        return 40
    def __getitem__(self, index):
        run.log({{"forked": 1.0}})
        return float(index)

def wait_for(condition):
    until = time.monotonic() + 15
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)

def fork():
    import torch
    return torch.utils.data.DataLoader(Numbers(), num_workers=2, batch_size=10)

def strike():
    Path(given["strike"]).touch()
    owner = getattr(list_cursors(folder / "run").get("post"), "owner", None)
    if fault in ("SIGSTOP", "SIGKILL"):
        os.kill(owner.pid, getattr(signal, fault))
    if fault == "look-up hangs":
        socket.getaddrinfo = lambda *_, **__: time.sleep(3600)
    if fault == "disk full":
        try:
            with open(folder / "ballast", "wb", buffering=0) as file:
                while file.write(bytes(512)):
                    pass
        except OSError:
            pass
    if fault == "read-only":
        assert run.flush()  # so that the journal is open, however busy the machine
        # The file system itself cannot become so while the journal is open: no new file can be
        # made through the mount on top of it, and the limit refuses what is open already. That
        # mount cannot either if a file was made through it meanwhile, so another takes its place.
        wait_for(lambda: os.system(
            f"mount --bind {{folder}} {{folder}} && "
            f"(mount -o remount,bind,ro {{folder}} || ! umount --lazy {{folder}})") == 0)
        assert os.statvfs(folder).f_flag & os.ST_RDONLY
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if fault == "fork":
        assert sum(len(batch) for batch in fork()) == 40

by_process = fault in ("SIGSTOP", "SIGKILL")
sink = PostSink(url=given["url"], broken=given["broken"], way=fault)
late = by_process or fault in ("fork", "disk full", "read-only")  # they need a run to strike
early = moment == "at start" and not late
if early:
    strike()
run = runtime.Run("run", dir=folder, sinks=[sink], close_timeout={budget},
                  deliver="process" if by_process else "thread")
if moment == "at start" and not early:
    if by_process:
        wait_for(lambda: getattr(list_cursors(run.dir).get("post"), "owner", None))
    strike()
for n in range({count}):
    run.log({{"n": float(n)}}, step=n)
    if n == {count} // 2 and moment == "while logging":
        if given["answers"]:
            wait_for(lambda: run.statistics().sinks["post"].delivered)
        strike()
if moment == "at exit":
    if given["answers"]:
        wait_for(lambda: run.statistics().sinks["post"].delivered)
    strike()
print("loop over", flush=True)
started = time.monotonic()
account = run.close()
seconds = time.monotonic() - started
(sink,) = account.sinks
statistics = run.statistics()
kinds = [type(record.event) for record in JournalReader(run.dir).records()]
journalled = sum(kind is not Gap for kind in kinds)
print(json.dumps({{"seconds": seconds, "journalled": journalled,
      "metrics": kinds.count(MetricsLogged), "published": statistics.published,
      "dropped": statistics.dropped_count, "delivered": sink.delivered, "pending": sink.pending,
      "complete": sink.complete, "status": sink.status, "unwritten": account.unwritten}}))
"""


@dataclass(frozen=True)
class Cell:
    """One fault at one moment, and what came of it."""

    ended: Ended
    found: dict[str, float]
    run_dir: Path

    def trained_to_the_end(self) -> None:
        """The loop saw nothing, the process ended well and in time."""
        assert self.ended.code == 0, self.ended.err
        assert "loop over" in self.ended.out
        assert self.found["seconds"] < BUDGET + HANG
        assert "planted-secret-key" not in self.ended.err + self.ended.out

    def counts_are_right(self) -> None:
        """What is delivered and what waits add up to what was logged and journalled."""
        journalled = JournalReader(self.run_dir).records(types=(MetricsLogged,))
        assert [r.event.metrics["n"] for r in journalled] == list(range(COUNT))
        if self.found["pending"] is not None:
            assert self.found["delivered"] + self.found["pending"] == COUNT
        # What the run could not count in time stands on the disk.
        cursor = list_cursors(self.run_dir).get("post") or Cursor(sink="post")
        waiting = count_waiting(FeedReader(Feed(self.run_dir)), cursor, names_of(PostSink.wants))
        assert cursor.counts.delivered + waiting == COUNT
        assert cursor.counts.delivered >= self.found["delivered"]


Strike = Callable[..., Cell]


@pytest.fixture
def strike(interpreter: Interpreter, server: Server, tmp_path: Path) -> Strike:
    """Trains in a process of its own while a fault strikes."""

    def run(fault: str, moment: str, *, url: str = "", answers: bool = True) -> Cell:
        given = {
            "folder": str(tmp_path),
            "moment": moment,
            "fault": fault,
            "url": url or server.url,
            "answers": answers and moment != "at start",
            "strike": str(server.fault),
            "broken": str(server.fault),
        }
        code = SCRIPT.format(given=json.dumps(given), budget=BUDGET, count=COUNT)
        ended = interpreter.run_script(tmp_path, code, 40.0)
        found = json.loads(ended.out.splitlines()[-1]) if ended.code == 0 else {}
        return Cell(ended, found, tmp_path / "run")

    return run


def deliver_the_rest(cell: Cell, server: Server, *, url: str = "") -> None:
    """With the fault gone, `sync_run` delivers what waits: every row is there, once."""
    server.fault.unlink(missing_ok=True)
    info = RunInfo.load(cell.run_dir)
    assert info.attempts[0].outcome == "finished"
    pace = Pace(backoff=Backoff(first=0.01, ceiling=0.1))
    deadline = time.monotonic() + HANG
    (account,) = sync_run(
        cell.run_dir, [PostSink(url=url or server.url)], pace=pace, take_over=True
    )
    assert account.complete, account
    assert account.delivered == COUNT
    assert account.dead == account.superseded == account.missing == 0
    assert time.monotonic() < deadline
    assert sorted(server.rows.values()) == list(range(COUNT))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", ["raises", "hangs", "blocks the loop"])
def test_a_broken_sink(strike, server, fault, moment):
    """It raises, never returns, or holds the whole loop thread."""
    cell = strike(fault, moment)

    cell.trained_to_the_end()
    cell.counts_are_right()
    assert not cell.found["complete"] or moment == "at exit"
    deliver_the_rest(cell, server)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_server_that_refuses_for_ever(strike, server, status, moment):
    """A wrong key, a limit, an error of its own."""
    server.status = status
    cell = strike(f"HTTP {status}", moment)

    cell.trained_to_the_end()
    cell.counts_are_right()
    deliver_the_rest(cell, server)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signal", ["SIGSTOP", "SIGKILL"])
def test_a_delivery_process_that_is_stopped_or_killed(strike, server, signal, moment):
    """Another one goes on where it stopped, or waits for the next command that does."""
    cell = strike(signal, moment)

    cell.trained_to_the_end()
    cell.counts_are_right()
    deliver_the_rest(cell, server)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "fault", ["name does not resolve", "connect hangs", "TLS stalls", "server is silent"]
)
def test_a_server_that_cannot_be_reached(*, strike, server, silent, deaf, fault, moment):
    """Wherever on the way to it something stalls."""
    url = {
        "name does not resolve": "http://no-such-host.invalid/",
        "connect hangs": f"http://127.0.0.1:{deaf}/",
        "TLS stalls": f"https://127.0.0.1:{silent}/",
        "server is silent": f"http://127.0.0.1:{silent}/",
    }[fault]
    cell = strike(fault, moment, url=url, answers=False)

    cell.trained_to_the_end()
    cell.counts_are_right()
    assert cell.found["delivered"] == 0
    deliver_the_rest(cell, server)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_look_up_that_hangs(strike, server, moment):
    """The name server does not answer; nobody waits for its thread, not even the exit."""
    url = server.url.replace("127.0.0.1", "localhost")
    cell = strike("look-up hangs", moment, url=url)

    cell.trained_to_the_end()
    cell.counts_are_right()
    deliver_the_rest(cell, server)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fork_in_a_data_loader(strike, server, moment):
    """Workers inherit everything and deliver nothing."""
    cell = strike("fork", moment)

    cell.trained_to_the_end()
    cell.counts_are_right()
    deliver_the_rest(cell, server)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", ["disk full", "read-only"])
def test_a_disk_that_refuses(namespace, server, tmp_path, fault, moment):
    """What is not journalled is counted; what is, arrives."""
    disk = tmp_path / "disk"
    disk.mkdir()
    given = {
        "folder": str(disk),
        "moment": moment,
        "fault": fault,
        "url": server.url,
        "answers": moment != "at start",
        "strike": str(server.fault),
        "broken": None,
    }
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(given=json.dumps(given), budget=BUDGET, count=COUNT))
    shell = f"mount -t tmpfs -o size=256k tmpfs {disk} && exec {sys.executable} {script}"
    done = subprocess.run(  # noqa: S603 - fixed
        [*namespace, "sh", "-c", shell],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "loop over" in done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["seconds"] < BUDGET + HANG
    assert len(server.rows) == found["delivered"]
    # Every event, those about the sink's health too, is in the journal or counted as lost; ...
    assert found["journalled"] + found["dropped"] + found["unwritten"] == found["published"]
    # ... every number in the journal has arrived or waits. What was not counted in time cannot be
    # counted here: the disk has gone with its namespace.
    if found["pending"] is not None:
        assert found["delivered"] + found["pending"] == found["metrics"]
