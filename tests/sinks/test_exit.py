"""A run whose servers are dead: its process ends in time, and says what waits and how to send it.

The command that its log names is run as it stands, by a shell's rules, once the servers are back.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus import RunInfo
from sinks.testing import Exchange, Received, Reply, ScriptedServer, serve, status
from tests.interpreter import Ended, Interpreter
from tests.waiting import HANG

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
COUNT = 60
BUDGET = 1.0

OPEN = """
import os, sys, time, runtime
sys.path.append({site!r})
from pathlib import Path
from tests.sinks.post_sink import PostSink
from tests.sinks.post_twice import Refused, Silent

def leave():
    tasks = Path("/proc/self/task").glob("*/children")
    pids = " ".join(each.read_text() for each in tasks)
    Path(FOLDER, "leaving.new").write_text(f"{{time.monotonic()}} {{os.getpid()}} {{pids}}")
    os.rename(Path(FOLDER, "leaving.new"), Path(FOLDER, "leaving"))

def train(run, count={count}):
    for n in range(count):
        run.log({{"n": float(n)}}, step=n)

def start(budget={budget}):
    return runtime.Run("run", dir=Path(FOLDER, "my runs"), close_timeout=budget,
                       deliver={deliver!r},
                       sinks=[Refused(url={refused!r}), Silent(url={silent!r})])
"""

END_OF_MAIN = """
run = start()
train(run)
leave()
"""
WITH = """
with start() as run:
    train(run)
    leave()
    {leaving}
"""
EXIT_HANDLER = """
import atexit
run = start()
train(run)

def late():
    run.log({"n": -1.0})
    print("handled")

atexit.register(late)
leave()
"""
INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit SIG_IGN
# What measures coverage takes a lock in Python at every call. A KeyboardInterrupt between taking
# and releasing it would keep it for ever, and every other thread that is measured would wait.
sys.settrace(None)
with start() as run:
    train(run)
    leave()
    while True:
        run.publish(MessageLogged(text="still here"))
"""
INTERRUPTED_CLOSING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit SIG_IGN
run = start(budget=30.0)
train(run)
leave()
run.close()
"""
INTERRUPTED_ELSEWHERE = """
import signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit SIG_IGN

def interrupt():
    # Whatever thread it comes to, the main thread is to act on it, and nothing wakes that.
    segments = Path(FOLDER, "my runs", "run", "journal")
    while not any(b'"type":"run_ended"' in each.read_bytes() for each in segments.glob("*")):
        time.sleep(0.005)
    waiting = ("threading.py", "_live.py")
    while Path(sys._current_frames()[main].f_code.co_filename).name not in waiting:
        time.sleep(0.005)
    leave()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

main = threading.get_ident()
run = start(budget=30.0)
train(run)
threading.Thread(target=interrupt, daemon=True).start()
run.close()
"""
INTERRUPTED_AT_THE_END = INTERRUPTED_CLOSING.replace("run.close()\n", "")


@dataclass(frozen=True)
class Waiting:
    """What the log says of one sink."""

    delivered: int
    pending: int
    command: str


@dataclass(frozen=True)
class Over:
    """A process that is gone."""

    ended: Ended
    seconds: float
    children: list[int]
    outcome: str | None

    @property
    def waiting(self) -> dict[str, Waiting]:
        """What the log says is left, by sink."""
        found = re.finditer(
            r"^(\S+) has got (\d+) events; (\d+) wait.*Deliver them with: (hotloop sync .+)$",
            self.ended.err,
            re.MULTILINE,
        )
        return {m[1]: Waiting(int(m[2]), int(m[3]), m[4]) for m in found}


class Servers:
    """Two servers that keep what each sink posts; dead at first."""

    def __init__(self) -> None:
        self.rows: dict[str, Counter[float]] = {"refused": Counter(), "silent": Counter()}
        self.refused = ScriptedServer(lambda request: self._take("refused", request))
        self.silent = ScriptedServer(lambda request: self._take("silent", request))

    def _take(self, name: str, request: Received) -> Reply:
        self.rows[name].update(value for _, _, value in request.json())
        return Reply()

    def revive(self) -> None:
        """Bring both back, at the addresses that the run was given."""
        self.refused.up()
        self.silent.always = serve


def hold(exchange: Exchange) -> None:
    exchange.ended.wait(60)
    exchange.drop()


@pytest.fixture
def servers() -> Iterator[Servers]:
    found = Servers()
    with found.refused, found.silent:
        found.refused.down()
        found.silent.always = hold
        yield found


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    """A folder that offers the sinks of these tests by entry point."""
    metadata = tmp_path / "site" / "posts-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: posts\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[hotloop.sinks]\n"
        "post = tests.sinks.post_sink:PostSink\n"
        "refused = tests.sinks.post_twice:Refused\n"
        "silent = tests.sinks.post_twice:Silent\n"
    )
    return metadata.parent


Runs = Callable[..., Over]


@pytest.fixture
def run(interpreter: Interpreter, servers: Servers, offered: Path, tmp_path: Path) -> Runs:
    """Runs a script to its end; `interrupts` says when SIGINT comes, seen from outside."""

    def script(
        body: str, deliver: str = "thread", interrupts: Callable[[], bool] | None = None
    ) -> Over:
        opening = OPEN.format(
            site=str(offered),
            count=COUNT,
            budget=BUDGET,
            deliver=deliver,
            refused=f"{servers.refused.url}/",
            silent=f"{servers.silent.url}/",
        )
        sent = [0.0]
        if interrupts is not None:
            when = interrupts

            def interrupt() -> None:
                while not ((tmp_path / "leaving").exists() and when()):
                    time.sleep(0.005)
                sent[0] = time.monotonic()
                os.kill(int((tmp_path / "leaving").read_text().split()[1]), 2)

            threading.Thread(target=interrupt, daemon=True).start()
        code = f"{opening}\nfrom bus import MessageLogged\n{body}"
        ended = interpreter.run_script(tmp_path, code, 30.0, whole=True)
        gone = time.monotonic()
        assert (tmp_path / "leaving").exists(), ended.err
        left, _, *children = (tmp_path / "leaving").read_text().split()
        [attempt] = RunInfo.load(tmp_path / "my runs" / "run").attempts
        seconds = gone - (sent[0] or float(left))
        return Over(ended, seconds, [int(each) for each in children], attempt.outcome)

    return script


def sync(commands: list[str], offered: Path, urls: Mapping[str, str]) -> list[int]:
    """Type these commands, at once, and tell their exit codes."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{offered}:{ROOT}",
        **{f"{name.upper()}_URL": url for name, url in urls.items()},
    }
    started: list[subprocess.Popen[bytes]] = []
    for command in commands:
        hotloop, *arguments = shlex.split(command)
        assert hotloop == "hotloop"
        started.append(
            subprocess.Popen(  # noqa: S603 - the command under test
                [sys.executable, "-m", "runtime.cli", *arguments], env=environment, cwd=offered
            )
        )
    return [each.wait(4 * HANG) for each in started]


HALFWAY = """
run = runtime.Run("run", dir=Path(FOLDER, "my runs"), sinks=[PostSink(url={url!r})],
                  close_timeout=1.0)
train(run, 40)
until = time.monotonic() + 15
while run.statistics().sinks["post"].delivered < 39 and time.monotonic() < until:
    time.sleep(0.01)
train(run, 20)
leave()
"""

ENDINGS = {
    "end of main": (END_OF_MAIN, 0, "finished"),
    "sys.exit": (WITH.format(leaving="sys.exit(3)"), 3, "failed"),
    "exception": (WITH.format(leaving="raise ValueError('no')"), 1, "failed"),
    "exit handler": (EXIT_HANDLER, 0, "finished"),
    "Ctrl-C while it logs": (INTERRUPTED, -2, "stopped"),
    "Ctrl-C while it closes": (INTERRUPTED_CLOSING, -2, "finished"),
    "Ctrl-C in another thread": (INTERRUPTED_ELSEWHERE, -2, "finished"),
    "Ctrl-C at the end": (INTERRUPTED_AT_THE_END, 0, "finished"),
}


SYNCED = {("end of main", "process"), ("Ctrl-C while it logs", "thread")}


@pytest.mark.parametrize("deliver", ["thread", "process"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_servers_that_are_dead(*, run, servers, offered, tmp_path, ending, deliver):
    """The process is gone in time with its own exit code; the commands it names send it all.

    They are the same for every ending, and run after two of them.
    """
    body, code, outcome = ENDINGS[ending]

    def closing() -> bool:
        segments = (tmp_path / "my runs" / "run" / "journal").glob("*.jsonl")
        return any(b'"type":"run_ended"' in path.read_bytes() for path in segments)

    when = {
        "Ctrl-C while it logs": lambda: True,
        "Ctrl-C while it closes": closing,
        "Ctrl-C at the end": closing,
    }.get(ending)
    over = run(body, deliver, when)

    assert (over.ended.code, over.outcome) == (code, outcome), over.ended.err
    # Closing that is interrupted has no budget left.
    budget = BUDGET if ending == "Ctrl-C while it logs" or "Ctrl-C" not in ending else 0.0
    assert over.seconds < budget + HANG
    assert not any(Path(f"/proc/{child}").exists() for child in over.children)
    counts = {name: (each.delivered, each.pending) for name, each in over.waiting.items()}
    assert counts == {"refused": (0, COUNT), "silent": (0, COUNT)}, over.ended.err
    assert "planted-secret-key" not in over.ended.err
    assert over.ended.out == ("handled\n" if ending == "exit handler" else "")

    folder = shlex.quote(str(tmp_path / "my runs" / "run"))
    commands = {name: each.command for name, each in over.waiting.items()}
    assert commands == {name: f"hotloop sync {folder} --sink {name}" for name in counts}
    if (ending, deliver) in SYNCED:
        servers.revive()
        urls = {"refused": f"{servers.refused.url}/", "silent": f"{servers.silent.url}/"}
        assert sync(list(commands.values()), offered, urls) == [0, 0]
        for rows in servers.rows.values():
            assert rows == Counter(range(COUNT))


def test_a_server_that_dies_halfway(run, servers, offered, tmp_path):
    """The log counts what was sent, refused and is left; two commands, and nothing is."""
    server, posted = servers.silent, 0

    def answer(exchange: Exchange) -> None:
        nonlocal posted
        values = [value for _, _, value in exchange.request.json()]
        busy = posted >= 39
        posted += 0 if busy or 7.0 in values else len(values)
        refused = status(503 if busy else 400) if busy or 7.0 in values else serve
        refused(exchange)

    server.always = answer
    url = f"{server.url}/"
    over = run(HALFWAY.format(url=url))

    letters = tmp_path / "my runs" / "run" / "dead" / "post.jsonl"
    said = f"post refused 1 events for good (see {letters}), and 0 were gone before they were sent"
    assert said in over.ended.err
    waiting = over.waiting["post"]
    assert (waiting.delivered, waiting.pending) == (39, 20)
    server.always = serve
    assert sync([waiting.command], offered, {"post_sink": url}) == [1]  # refused for good
    assert sync([f"{waiting.command} --dead"], offered, {"post_sink": url}) == [0]
    assert servers.rows["silent"] == Counter([*range(40), *range(20)])
