"""`BusLogger`, a logger for Lightning's trainer that publishes on a run."""

import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bus import BusOptions, CheckpointSaved
from runtime._metrics import Scalar
from runtime._run import Run
from runtime.bridges._lightning_metrics import leave_on_device
from runtime.bridges._needed import lacking
from runtime.bridges._own_run import Closing, OwnRun, RunSettings

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import Logger
except ImportError as error:
    raise lacking("lightning", "lightning", error) from error

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from bus import ReportTo

__all__ = ["BusLogger", "Callback"]


class BusLogger(Closing, Logger):
    """Publishes metrics and hyperparameters on a run, which delivers them to sinks.

    Tensors stay where they are, and nothing waits for their device, as long as no logger of another
    kind is there. Add a `BusControl` to the trainer's callbacks for requests, resuming and the
    course of the training. The run is closed by `close`, by leaving the context, by a failure of
    the training, or when Python exits.

    Args:
        sinks: Where to deliver: names, `bus.Sink` objects, or "all" for every one that is ready.
        run: A run of your own to publish on; closing it is left to you, and nothing else is given.
        name: The run's name; "lightning" by default.
        project: What it belongs to.
        dir: The folder of runs; "runs" by default.
        options: Settings of the bus.
        close_timeout: Seconds that closing may take altogether.

    Attributes:
        latest: Step and metrics that were logged last; None if none were since it was set so.
        error: What ended the training, if `BusControl` has heard of it.
        controlled: Whether a `BusControl` begins the run; otherwise the logger does.

    Raises:
        ValueError: Something else is given beside `run`, or it has ended.
    """

    def __init__(
        self,
        sinks: "ReportTo" = None,
        *,
        run: Run | None = None,
        name: str | None = None,
        project: str | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the field's word
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
        self.own: OwnRun = settings.owned(run, lambda: settings.plan(name="lightning"))
        self.latest: tuple[int | None, Mapping[str, Scalar]] | None = None
        self.error: BaseException | None = None
        self.controlled: bool = False
        self._announced: set[str] = set()

    @property
    def run(self) -> Run:
        """Its events, journal and decisions.

        Where Lightning starts the other processes itself, ask for it only when they are there: in
        `setup` or later.
        """
        return self.own.run

    @property
    def experiment(self) -> Run:
        """The run, under Lightning's word for it."""
        return self.own.run

    @property
    def name(self) -> str:
        """The run's name, which is its folder's; before it begins, the name it is to have."""
        return self.own.planned_dir.name

    @property
    def version(self) -> int | str:
        """Which attempt at the run it is; empty before it begins."""
        return self.run.attempt if self.own.begun else ""

    @property
    def root_dir(self) -> str:
        """The folder of runs."""
        return str(self.own.planned_dir.parent)

    @property
    def save_dir(self) -> str:
        """The folder of runs; checkpoints go to `checkpoints` in the run's, below it."""
        return self.root_dir

    @property
    def log_dir(self) -> str:
        """The run's folder, likewise."""
        return str(self.own.planned_dir)

    def log_metrics(self, metrics: Mapping[str, Scalar], step: int | None = None) -> None:
        """Publish numbers and tensors of one element; of mappings, each number as `name/key`."""
        if any(isinstance(value, Mapping) for value in metrics.values()):
            metrics = _flat(metrics)
        self.latest = (step, metrics)
        self.run.log(metrics, step=step)

    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace,
        *args: Any,  # noqa: ANN401 - as Lightning's
        **kwargs: Any,  # noqa: ANN401 - as Lightning's
    ) -> None:
        """Publish settings; values under keys that look like secrets are masked."""
        self.own.remember(vars(params) if isinstance(params, Namespace) else params)

    def log_graph(self, model: "Module", input_array: "Tensor | None" = None) -> None:
        """Nothing is drawn; from here the logger knows its trainer."""
        if not isinstance(model, LightningModule):
            return
        leave_on_device(model.trainer, BusLogger)
        if not self.controlled:
            self.begin(model.trainer, lambda: self.own.begin(None, None))

    def begin(self, trainer: Trainer, begin: Callable[[], None]) -> None:
        """Begin the run, and move the checkpoints that Lightning has planned into its folder.

        Lightning asks for the folder before it reads the checkpoint that names the run.
        """
        planned = str(self.own.planned_dir / "checkpoints")
        begin()
        for each in trainer.checkpoint_callbacks:
            if getattr(each, "dirpath", None) in (planned, self._folder_of_version()):
                each.dirpath = str(self.run.dir / "checkpoints")

    def _folder_of_version(self) -> str:
        """Where Lightning puts checkpoints once there is a version."""
        return str(self.run.dir / f"version_{self.version}" / "checkpoints")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:  # noqa: ANN401 - a proxy
        """Announce what Lightning has saved; it calls this on the first rank only."""
        best = checkpoint_callback.best_model_path
        found = {best, checkpoint_callback.last_model_path, *checkpoint_callback.best_k_models}
        for path in sorted(found - self._announced - {""}):
            if not Path(path).exists():
                continue
            self._announced.add(path)
            step = None if self.latest is None else self.latest[0]
            aliases = ("best",) if path == best else ()
            self.run.publish(CheckpointSaved(step=step, path=path))
            self.run.artifact(path, kind="checkpoint", aliases=aliases, step=step)

    def finalize(self, status: str) -> None:
        """End the run if training failed; otherwise it stays open for what may come."""
        if status == "failed":
            error, self.error = self.error, None
            self.own.begin(None, None)  # it may have failed before that
            self.own.close(None if error is not None else "failed", error)


def _flat(metrics: Mapping[str, object]) -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            inner = cast("Mapping[object, Scalar]", value)
            flat.update((f"{name}/{key}", each) for key, each in inner.items())
        else:
            flat[name] = cast("Scalar", value)
    return flat
