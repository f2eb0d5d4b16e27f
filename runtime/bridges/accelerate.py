"""`BusTracker` publishes what an `Accelerator` logs, and brings decisions to its loop.

```
from accelerate import Accelerator
from runtime.bridges.accelerate import BusTracker

tracker = BusTracker(["tensorboard"], name="gpt")
accelerator = Accelerator(log_with=tracker)
accelerator.init_trackers("demo", config={"lr": 3e-4})
for step, batch in enumerate(loader, start=1):
    ...
    accelerator.log({"loss": loss.detach()}, step=step)
    decision = tracker.run.safe_point(step)
    if decision.save:
        accelerator.save_state(f"checkpoint-{step}")
    if decision.stop:
        break
accelerator.end_training()
```
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from bus import BusOptions, MediaLogged, TextLogged
from runtime._metrics import Scalar
from runtime._run import Run
from runtime.bridges._needed import lacking
from runtime.bridges._own_run import OwnRun, RunSettings
from runtime.bridges._pictures import write_picture

try:
    from accelerate.tracking import GeneralTracker
except ImportError as _error:
    raise lacking("accelerate", "accelerate", _error) from _error

if TYPE_CHECKING:
    from bus import ReportTo

__all__ = ["BusTracker"]


class BusTracker(GeneralTracker):
    """A tracker for `Accelerator(log_with=...)`; what it is given goes to a run, and on to sinks.

    Accelerate calls trackers on the main process only, which is the one that delivers. `run` is
    there on every process: all of them pass `tracker.run.safe_point(step)` and are told the same.
    `end_training` ends the run on the main process, `finish` on any; one that nobody ended is
    closed when Python exits, as failed if an exception did that.

    Args:
        sinks: Where to deliver: names, `bus.Sink` objects, or "all" for every one that is ready.
        run: A run of your own to publish on; closing it is left to you, and nothing else is given.
        name: The run's name; "run" by default.
        project: What it belongs to.
        dir: The folder of runs; "runs" by default.
        resume: "auto" goes on with the newest run of this name if there is one; the folder of a run
            goes on with that one.
        from_step: When resuming, the step of the checkpoint.
        options: Settings of the bus.
        close_timeout: Seconds that closing may take altogether.

    Raises:
        ValueError: Something else is given beside `run`, or it has ended.
    """

    name: ClassVar[str] = "hotloop"
    requires_logging_directory: ClassVar[bool] = False
    main_process_only: bool = False

    def __init__(
        self,
        sinks: "ReportTo" = None,
        *,
        run: Run | None = None,
        name: str | None = None,
        project: str | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the field's word
        resume: str | os.PathLike[str] | None = None,
        from_step: int | None = None,
        options: BusOptions | None = None,
        close_timeout: float = 30.0,
    ) -> None:
        super().__init__()
        settings = RunSettings(
            name=name,
            project=project,
            dir=dir,
            sinks=sinks,
            options=options,
            close_timeout=close_timeout,
        )
        self._own: OwnRun = settings.owned(run, settings.plan)
        self._resume = resume
        self._from_step = from_step
        self._pictures = 0

    @property
    def run(self) -> Run:
        """Its events, journal and decisions; ask for it behind `init_trackers`.

        Raises:
            RanksError: The main process has not begun it.
        """
        run = self._own.run
        if run.rank and not self._own.begun:  # where Accelerate does not call `start`
            self.start()
        return run

    @property
    def tracker(self) -> Run:
        """The run, under Accelerate's word for it."""
        return self.run

    def start(self) -> None:
        """Begin the run; `init_trackers` calls it on the main process."""
        self._own.renew()
        self._own.begin(self._resume, self._from_step)

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Publish settings; values under keys that look like secrets are masked."""
        self.run.params(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - as Accelerate's
        """Publish numbers and tensors of one element, without waiting for their device.

        Of a mapping each number becomes `name/key`; a text becomes a `TextLogged`. Anything else
        is dropped, counted, and its key named once.

        Args:
            values: What to log, by name.
            step: Optimizer steps taken so far.
            kwargs: What other trackers are given; none of it is used.
        """
        metrics: dict[str, Scalar] = {}
        for name, value in values.items():
            if isinstance(value, str):
                self.run.publish(TextLogged(key=name, text=value, step=step))
            elif isinstance(value, Mapping):
                inner = cast("Mapping[object, Scalar]", value)
                metrics.update((f"{name}/{key}", each) for key, each in inner.items())
            else:
                metrics[name] = value
        if metrics:
            self.run.log(metrics, step=step)

    def log_images(
        self,
        values: Mapping[str, Sequence[Any]],
        step: int | None = None,
        **kwargs: Any,  # noqa: ANN401 - as Accelerate's
    ) -> None:
        """Write images to the run's folder as PNG files, and publish each as a `MediaLogged`.

        Args:
            values: Images by name: arrays or Pillow's, height x width, with 1, 3 or 4 channels
                behind if there are several; bytes, or numbers from 0 to 1.
            step: Optimizer steps taken so far.
            kwargs: What other trackers are given; none of it is used.

        Raises:
            ValueError: An array is no image.
        """
        folder = self.run.dir / "media"
        for name, images in values.items():
            for image in images:
                self._pictures += 1
                path = write_picture(folder, f"rank{self.run.rank}-{self._pictures}", image)
                self.run.publish(
                    MediaLogged(key=name, path=str(path), media_type="image/png", step=step)
                )

    def finish(self) -> None:
        """End the run on this process; `end_training` calls it on the main one."""
        self._own.close()
