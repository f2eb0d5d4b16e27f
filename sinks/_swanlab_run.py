"""A run in SwanLab's library: begun, written and ended apart from the process, and acknowledged.

The library answers nothing: `log` puts points into a queue, from which threads of its own write
files and send. What was taken is seen by a callback of its, by the buffer of its file and by the
counts of its uploads; they are no part of its interface, so that its version is pinned
(read in its source, version 0.10.3).
"""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from bus import DeliveryError, MisconfiguredError, Outcome, RejectedError, UnavailableError
from sinks._files import refusals
from sinks._libraries import library
from sinks._swanlab_apart import apart, hush, last_words, unhush
from sinks._swanlab_state import logged_name

_STATES: Final[Mapping[Outcome, str]] = {
    "finished": "success",
    "stopped": "aborted",
    "preempted": "aborted",
    "failed": "crashed",
    "crashed": "crashed",
}
_PATIENCE: Final = 60.0
"""Seconds without progress after which a batch is tried again; the library keeps what it has."""
_TICK: Final = 0.05

_online = threading.Lock()
"""One login serves a process, and the end of a run ends it for every other one."""


class SwanLabRun:
    """A run that is under way, in the library's mode `online`, `offline` or `local`.

    All calls are made by one thread, which is not the main thread: there the library would take
    the signal of Ctrl-C.

    Args:
        mode: The library's mode.
        log_dir: Its folder.
        settings: Its settings beside these two.
        options: What its `init` is given.

    Raises:
        DeliveryError: It cannot begin.
    """

    def __init__(
        self,
        mode: str,
        log_dir: Path,
        *,
        settings: Mapping[str, object],
        options: Mapping[str, object],
    ) -> None:
        self.online: bool = mode == "online"
        self._changed = threading.Condition()
        self._logged = self._flushed = 0
        self._blamed: object = None
        if self.online and not _online.acquire(blocking=False):
            raise UnavailableError(
                "another run of this process is online, and SwanLab's library serves one at a time"
            )
        try:
            hush()
            self._run = _begin(mode, log_dir, settings, options)
            self._watch()
        except BaseException:
            self.abandon()
            raise

    @property
    def place(self) -> str:
        """Where a person can look at it."""
        return str(self._run.url) if self.online else Path(self._run.dir).as_uri()

    def configure(self, config: Mapping[str, JsonValue]) -> None:
        """Add to its settings."""
        if config:
            self._run.config.update(dict(config))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Hand over numbers of a step; the first of a name and a step counts."""
        named = {logged_name(key): value for key, value in numbers.items()}
        self._run.log(named, step=step)
        self._logged += len(named)

    def settle(self, records: int) -> None:
        """Wait until everything that was handed over is in files, and online at the server.

        Args:
            records: How many there are in the batch that this is the end of.

        Raises:
            UnavailableError: It does not get there; the same may be handed over again.
            RejectedError: The server refused some of it for good.
            MisconfiguredError: The dashboard has stopped or deleted the run.
        """
        with self._changed:
            while self._flushed < self._logged:
                before = self._flushed
                self._await_flush(before)
        if self.online:
            self._await_upload()
            self._look_for_refusals(records)

    def finish(self, outcome: Outcome, error: str | None) -> None:
        """Tell the outcome; online, wait until everything is sent, however long that takes.

        Raises:
            UnavailableError: The server was not told; another run of the same id may tell it.
        """
        runs = library("swanlab.sdk.internal.run", "swanlab")
        state = _STATES[outcome]
        try:
            with apart():
                others = runs._current_run  # noqa: SLF001 - it clears what is not its own
                self._run.finish(
                    state=state, error=None if state == "success" else error or outcome
                )
                if others is not None:
                    runs.set_run(others)
            if self._run._core._pending_online_finish_record is not None:  # noqa: SLF001 - see there
                raise UnavailableError(f"SwanLab was not told how the run ended: {last_words()}")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of what a process has one of."""
        unhush()
        if self.online:
            _online.release()

    def _watch(self) -> None:
        """Be told of points that have been written, after the dashboard's files have them."""

        def flushed(_: object, records: list[object], *__: object) -> None:
            # In the thread that writes the file, which otherwise stays in a buffer until the end.
            self._run._core._store.ensure_flushed()  # noqa: SLF001 - see the module's docstring
            with self._changed:
                self._flushed += len(records)
                self._changed.notify_all()

        base = library("swanlab", "swanlab").Callback
        watcher = type("Watcher", (base,), {"name": "hotloop", "on_scalar_flush": flushed})
        self._run._callbacker.merge_callbacks(watcher())  # noqa: SLF001 - see there

    def _await_flush(self, before: int) -> None:
        """Wait for one sign of progress, `_changed` being held."""
        deadline = time.monotonic() + _PATIENCE
        consumer: threading.Thread = self._run._components.consumer._thread  # noqa: SLF001 - see there
        while self._flushed == before:
            if not consumer.is_alive():
                raise MisconfiguredError(
                    "SwanLab's library has given this run up, as when its experiment was deleted "
                    "or stopped in the dashboard",
                    fix="a new process goes on in an experiment of its own",
                )
            if time.monotonic() > deadline:
                raise UnavailableError(f"SwanLab's library writes nothing: {last_words()}")
            self._changed.wait(1.0)

    def _await_upload(self) -> None:
        core = self._run._core  # noqa: SLF001 - see the module's docstring
        deadline, before = time.monotonic() + _PATIENCE, -1
        while True:
            stats = core.get_operation_stats().stats
            if stats.uploaded_records >= stats.total_records:
                break
            if stats.uploaded_records != before:
                deadline, before = time.monotonic() + _PATIENCE, stats.uploaded_records
            if time.monotonic() > deadline:
                left = stats.total_records - before
                raise UnavailableError(
                    f"SwanLab's server takes nothing, {left} records wait: {last_words()}"
                )
            time.sleep(_TICK)

    def _look_for_refusals(self, records: int) -> None:
        """Blame the batch for points that the server has refused since the last one.

        The library, which does not send a point twice, tells no more of them than that.
        """
        failures = self._run._core._transport.last_failures()  # noqa: SLF001 - see the docstring
        latest = next((each for each in failures if _is_of_points(each)), None)
        if latest is not None and latest is not self._blamed:
            self._blamed = latest
            message = f"SwanLab's server refuses: {latest.message}"
            raise RejectedError(message, guilty=tuple(range(records)))


def known_library() -> Any:  # noqa: ANN401 - the library itself
    """SwanLab's library, if it is a version whose inside is known.

    Raises:
        MisconfiguredError: It is not, or not there.
    """
    swanlab = library("swanlab", "swanlab")
    if not str(swanlab.__version__).startswith("0.10."):
        raise MisconfiguredError(
            f"swanlab {swanlab.__version__} is not known here, 0.10 is",
            fix="pip install 'hotloop[swanlab]'",
        )
    return swanlab


def _begin(
    mode: str, log_dir: Path, settings: Mapping[str, object], options: Mapping[str, object]
) -> Any:  # noqa: ANN401 - the library's own
    """Begin a run of the library's."""
    swanlab = known_library()
    runs = library("swanlab.sdk.internal.run", "swanlab")
    if runs.has_run():
        raise MisconfiguredError(
            "this process has a SwanLab run of its own, beside which the library has no other",
            fix="finish that one, or let this one be delivered by a process (deliver='process')",
        )
    try:
        with apart():
            run = swanlab.init(
                settings=swanlab.Settings(
                    interactive=False,
                    mode=mode,
                    log_dir=log_dir,
                    terminal={"proxy_type": "none"},
                    **settings,
                ),
                **options,
            )
    except Exception as error:
        raise _meaning(error, log_dir, str(settings.get("api_host"))) from error
    runs.clear_run()  # `swanlab.log` and `swanlab.init` are the program's
    return run


def _meaning(error: Exception, log_dir: Path, host: str) -> DeliveryError:
    """What a failure of the library's `init` means; of a login it says the same whatever it was."""
    said = last_words()
    if type(error).__name__ == "AuthenticationError":
        if "-> 401" in said or "-> 403" in said:
            return MisconfiguredError(f"SwanLab refuses the key: {said}", fix="set SWANLAB_API_KEY")
        return UnavailableError(
            f"nobody could be logged in at {host}: {said or error}; if that stays so, check "
            "SWANLAB_API_HOST and SWANLAB_API_KEY"
        )
    if isinstance(error, OSError) and error.errno is not None:
        try:
            with refusals(log_dir):
                raise error
        except DeliveryError as meaning:
            return meaning
    if isinstance(error, OSError) and getattr(error, "retryable", True):
        return UnavailableError(f"SwanLab does not answer at {host}: {error}")
    why = " ".join(str(error).split())
    return MisconfiguredError(
        f"SwanLab begins no run: {why}", fix="check the SWANLAB_ variables and SwanLab's files"
    )


def _is_of_points(failure: Any) -> bool:  # noqa: ANN401 - the library's own
    return any(each.WhichOneof("record_type") == "scalar" for each in failure.records or ())
