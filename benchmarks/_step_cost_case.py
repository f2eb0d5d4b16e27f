"""One case of `step_cost.py`: a launch-bound step in blocks without and with logging.

Started by it as `python _step_cost_case.py FOLDER PLAN`; prints a `Result` as JSON.
"""

import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import torch
from _numbers import quantile
from _publish_cases import NAMES
from _step_cost_result import OPERATIONS, Plan, Result

from bus import EventStream, MetricsLogged, Sink
from runtime import Run
from sinks.jsonl import JsonlSink
from sinks.tensorboard import TensorBoardSink
from sinks.webhook import WebhookSink

_OURS: Final = "hotloop-"

_SERVER: Final = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

Opened: TypeAlias = Callable[[], AbstractContextManager[Run]]


def make_step() -> Callable[[], None]:
    """Return a step of very many tiny operations, each of which gives the GIL away."""
    state = torch.zeros(8)

    def step() -> None:
        for _ in range(OPERATIONS):
            state.add_(1.0)

    return step


class Block:
    """Steps for a while, with a call whenever one is due.

    Args:
        step: What is timed, calls included.
        plan: How long, how often.

    Attributes:
        mean: Of the steps, in seconds.
        p99: Of the steps, in seconds.
        calls: How many calls were made.
        seconds: How long the block took.
    """

    def __init__(self, step: Callable[[], None], plan: Plan) -> None:
        self.mean = self.p99 = self.seconds = 0.0
        self.calls = 0
        self._step = step
        self._plan = plan
        self._uniform = random.Random(0).random  # noqa: S311 - any fresh number will do

    def run(self, call: Callable[[dict[str, float], int], object]) -> "Block":
        """Take the steps; returns itself."""
        took: list[float] = []
        clock, period = time.perf_counter, 1 / self._plan.rate
        began = now = clock()
        due = began + period
        while now < began + self._plan.seconds:
            self._step()
            while (ended := clock()) >= due:
                due += period
                self.calls += 1
                call({name: self._uniform() for name in NAMES}, len(took))
            took.append(ended - now)
            now = ended
        self.seconds = now - began
        self.mean = statistics.fmean(took)
        self.p99 = quantile(sorted(took), 0.99)
        return self


def base_block(step: Callable[[], None], plan: Plan, result: Result) -> None:
    """Run a block in which nothing is logged."""
    block = Block(step, plan).run(_nothing)
    result.base.append(block.mean)
    result.base_p99.append(block.p99)


@contextmanager
def three_sinks(folder: Path) -> Iterator[list[Sink]]:
    """JSON lines, TensorBoard files, and a web hook to a server in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as server:  # noqa: S603 - our own words
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        yield [
            JsonlSink(path=folder / "events.jsonl"),
            TensorBoardSink(log_dir=folder / "tensorboard"),
            WebhookSink(url=url),
        ]
        server.terminate()


@contextmanager
def open_run(folder: Path, plan: Plan) -> Iterator[Run]:
    """A run as the plan wants it; with sinks, when all of them have begun."""
    with ExitStack() as stack:
        sinks = stack.enter_context(three_sinks(folder)) if plan.deliver is not None else None
        run = stack.enter_context(
            Run(name="bench", dir=folder, sinks=sinks, deliver=plan.deliver or "thread")
        )
        for number in range(plan.subscribers):
            run.subscribe(MetricsLogged, name=f"idle-{number}")(_reading)
        run.log({"first": 1.0})
        while sinks and any(not each.delivered for each in run.statistics().sinks.values()):
            time.sleep(0.01)
        yield run


def logging_block(step: Callable[[], None], opened: Opened, plan: Plan, result: Result) -> None:
    """Run a block that logs; add what our threads used to the result."""
    with opened() as run:
        Block(step, plan.model_copy(update={"seconds": 0.05})).run(
            lambda metrics, number: run.log(metrics, step=number)
        )
        run.flush()
        before, kernel_before = run.statistics(), _kernel_seconds()
        block = Block(step, plan).run(lambda metrics, number: run.log(metrics, step=number))
        run.flush()
        after, kernel_after = run.statistics(), _kernel_seconds()
    if plan.deliver is None:  # otherwise sinks' health is published as well
        assert after.published - before.published == block.calls, (before, after, block.calls)
        assert after.journalled - before.journalled == block.calls, (before, after, block.calls)
    writer = after.writer_cpu_seconds - before.writer_cpu_seconds
    live = after.live_cpu_seconds - before.live_cpu_seconds
    result.ours.append(block.mean)
    result.ours_p99.append(block.p99)
    result.writer.append(writer / block.calls)
    result.share.append((writer + live) / block.seconds)
    result.kernel_share.append((kernel_after - kernel_before) / block.seconds)
    result.rate.append(block.calls / block.seconds)


async def _reading(events: EventStream[MetricsLogged]) -> None:
    async for _ in events:
        pass


def _kernel_seconds() -> float:
    """CPU time of our threads so far, by the kernel's own account."""
    ids = [each.native_id for each in threading.enumerate() if each.name.startswith(_OURS)]
    return sum(_scheduled(Path(f"/proc/self/task/{each}/schedstat")) for each in ids)


def _scheduled(file: Path) -> float:
    return int(file.read_text(encoding="ascii").split()[0]) / 1e9 if file.exists() else 0.0


def _nothing(_metrics: dict[str, float], _step: int) -> None:
    """Stand for the call in blocks without logging."""


def measure_case(folder: Path, plan: Plan) -> Result:
    """Alternate blocks without and with logging."""
    step = make_step()
    result = Result()
    with ExitStack() as stack:
        if plan.deliver is None:
            opened: Opened = partial(open_run, folder, plan)
        else:  # starting processes takes longer than a block
            opened = partial(nullcontext, stack.enter_context(open_run(folder, plan)))
        base_block(step, plan, Result())
        logging_block(step, opened, plan, Result())
        for _ in range(plan.blocks):
            base_block(step, plan, result)
            logging_block(step, opened, plan, result)
        base_block(step, plan, result)
    return result


def main() -> None:
    """Measure the case that the command line describes."""
    folder, plan = sys.argv[1:]
    torch.set_num_threads(1)
    print(measure_case(Path(folder), Plan.model_validate_json(plan)).model_dump_json())


if __name__ == "__main__":
    main()
