"""Forks programs from one Python that has torch loaded, for all workers of a test run.

`python -m tests.forks NAME` is that Python: it listens at the abstract socket NAME and forks a
program for each request, until nobody is left who may ask; `interpreter.py` asks. A request is one
message: a `Request` as JSON, with the program's standard input, output and error and with a pipe,
into which go the program's number and, once it has ended, its exit status as `Popen.returncode`
has it, a line each. There is no run and no thread yet when it forks, and the program is the main
module. Its end is the interpreter's ordinary end, or all of it that is Python's and the program's:
to take torch apart afterwards would take longer than most programs.
"""

import atexit
import contextlib
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MESSAGE = 1 << 17
"""Bytes of the largest request."""

PATIENCE = 60.0
"""Seconds in which somebody has to come who asks."""


@dataclass(frozen=True)
class Request:
    """A program to be run.

    Attributes:
        arguments: Python's: `-m MODULE ...`, `-c SOURCE ...` or `SCRIPT ...`, perhaps behind
            `-W ACTION`.
        folder: The folder to run it in.
        environment: All of its variables.
        session: Whether it leads a session of its own.
        whole: Whether its end is to be the interpreter's to the last.
    """

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    session: bool
    whole: bool


class End:
    """How this program has ended.

    Attributes:
        code: With which exit status; None if the interpreter is to see to that itself.
    """

    code: int | None = None


@atexit.register  # the first, so it is called last: threads and users' functions have ended then
def leave() -> None:
    """End without taking apart what was loaded before the fork."""
    if End.code is not None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
                stream.flush()
        os._exit(End.code)


def serve(name: str) -> Request | None:
    """Answer for as long as somebody may ask; return in each program that is to be run, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            listener.bind(f"\0{name}")
        except OSError:  # another worker's was faster
            return None
        listener.listen()
        load()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody is left to be waited for
        return _answer(listener)


def load() -> None:
    """Load what programs need, so that none has to; a warning would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("torch", "torch._dynamo", "runtime", "sinks"):  # optimizers need the second
            importlib.import_module(name)
        runtime = sys.modules["runtime"]
        assert runtime.Run
        assert runtime.Trainer
    gc.collect()
    gc.freeze()  # a program that looks through all of torch at its end would copy it first


def _answer(listener: socket.socket) -> Request | None:
    askers: list[socket.socket] = []
    while True:
        for ready in select.select([listener, *askers], [], [], PATIENCE)[0]:
            if ready is listener:
                askers += _accepted(listener)
                continue
            data, descriptors, _, _ = socket.recv_fds(ready, MESSAGE, 4)
            if not data:
                ready.close()
                askers.remove(ready)
            elif _is_program(descriptors):
                for each in askers:
                    each.close()
                return Request(**json.loads(data))
        if not askers:
            return None


def _accepted(listener: socket.socket) -> list[socket.socket]:
    """Whoever comes, if it is the same user: an abstract socket is open to all."""
    asker, _ = listener.accept()
    _, user, _ = struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid():
        asker.close()
        return []
    asker.send(b"welcome")
    return [asker]


def _is_program(descriptors: list[int]) -> bool:
    """Fork a program and one that waits for it; true in the program."""
    *standard, status = descriptors
    if os.fork():
        for each in descriptors:
            os.close(each)
        return False
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    program = os.fork()
    if not program:
        for number, each in enumerate(standard):
            os.dup2(each, number)
        for each in descriptors:
            os.close(each)
        return True
    for each in standard:
        os.close(each)
    os.write(status, b"%d\n" % program)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    os.write(status, b"%d\n" % code)
    os._exit(0)


def become(request: Request) -> None:
    """Be the program."""
    if request.session:
        os.setsid()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    if threads := request.environment.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))  # as it does when it is loaded
    sys.stdin, sys.stdout, sys.stderr = (_standard(number) for number in range(3))
    faulthandler.register(signal.SIGUSR2, chain=True)  # every thread's stack, then the end
    arguments = list(request.arguments)
    while arguments[0] == "-W":
        warnings.simplefilter(arguments[1])  # type: ignore[arg-type]  # an action
        del arguments[:2]
    try:
        _run_main(arguments)
    except SystemExit as leaving:
        if not request.whole and (leaving.code is None or isinstance(leaving.code, int)):
            End.code = leaving.code or 0
        raise
    except Exception:
        if not request.whole:
            End.code = 1
        raise
    if not request.whole:
        End.code = 0


def _standard(number: int) -> IO[str]:
    """What Python opens at its start."""
    buffered = -1 if number == 1 and not os.isatty(1) else 1  # 1: by line
    return open(number, "w" if number else "r", buffered, encoding="utf-8", closefd=False)


def _run_main(arguments: list[str]) -> None:
    main = types.ModuleType("__main__")
    if arguments[0] == "-c":
        first, code = "", compile(arguments[1], "<string>", "exec")
        sys.argv = ["-c", *arguments[2:]]
    elif arguments[0] == "-m":
        first, name = str(Path.cwd()), arguments[1]
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
        assert spec is not None, name
        code = spec.loader.get_code(spec.name)  # type: ignore[union-attr]  # a module's source
        main.__spec__, main.__package__ = spec, spec.parent
        sys.argv = [str(spec.origin), *arguments[2:]]
    else:
        script = Path(arguments[0])
        first, code = str(script.parent), compile(script.read_bytes(), script, "exec")
        main.__file__ = str(script)
        sys.argv = arguments
    sys.path[0] = first
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102 - that is what this program is for


if __name__ == "__main__":
    asked = serve(sys.argv[1])
    if asked is not None:
        become(asked)
