"""Processes that are sent signals: a loop, one in a C call, one with processes of its own.

Each says on standard output where it is.
"""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

import runtime
from tests.runtime.trainer.nursery import serve


def say(text: object) -> None:
    """One line for the test."""
    os.write(1, f"{text}\n".encode())


def loop(folder: str) -> None:
    """Steps until it is stopped; what ended it is in the journal."""
    with runtime.Run("gpt", dir=folder) as run:
        run.catch_signals(grace_seconds=60)
        say("ready")
        step = 0
        while not run.safe_point(step).stop:
            step += 1
            time.sleep(0.001)


def in_c(folder: str) -> None:
    """Sits in a call of a C library for longer than any test."""
    with runtime.Run("gpt", dir=folder) as run:
        run.catch_signals(grace_seconds=0.2)

        def watch() -> None:
            while not run.control.pending:
                time.sleep(0.001)
            say("asked")

        threading.Thread(target=watch, daemon=True).start()
        say("ready")
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)


def parents(folder: str) -> None:
    """Starts processes of every kind and ends each with `terminate`, as early as can be."""
    with runtime.Run("gpt", dir=folder) as run:
        run.catch_signals()
        forks = multiprocessing.get_context("fork")
        for _ in range(40):
            child = forks.Process(target=time.sleep, args=(600,))
            child.start()
            child.terminate()
            child.join()
            say(f"fork {child.exitcode}")
        children = [subprocess.Popen(["sleep", "600"]) for _ in range(5)]  # noqa: S607 - in PATH
        for each in children:
            each.terminate()
            say(f"subprocess {each.wait()}")
        loader = torch.utils.data.DataLoader(range(1000), num_workers=2, persistent_workers=True)
        iterator = iter(loader)
        next(iterator)
        for worker in iterator._workers:
            worker.terminate()
            worker.join()
            say(f"worker {worker.is_alive()}")
        iterator._shutdown_workers()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # their own, not ours
            child = forks.Process(target=signal.raise_signal, args=(number,))
            child.start()
            child.join()
        say(f"asked {run.control.pending}")
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    say(before == [signal.SIG_DFL, signal.SIG_DFL, signal.default_int_handler])


CHILDREN = {"loop": loop, "in_c": in_c, "parents": parents}


def be(line: str) -> None:
    """Be one of them, in a folder that is gone afterwards unless one is named."""
    name, _, folder = line.partition(" ")
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if folder:
        CHILDREN[name](folder)
    else:
        with tempfile.TemporaryDirectory() as made:
            CHILDREN[name](made)


if __name__ == "__main__":
    serve(be)
