"""Writes a run with DVCLive: tables of metrics, parameters, models, and an experiment at its end.

Metrics have their real steps: `Live.next_step`, which counts calls instead and reads all tables
again at each, is never used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import BeforeValidator, Field

from bus import (
    ArtifactReady,
    Batch,
    BlockingSink,
    CheckpointSaved,
    Event,
    FolderHold,
    Outcome,
    ParametersLogged,
    Promise,
    RunStarted,
    SinkContext,
    SinkSettings,
    State,
)
from sinks._dvclive_files import drop_beyond, settle, sizes
from sinks._dvclive_state import Known, logged_name, renamed
from sinks._files import check_folder, refusals
from sinks._held_files import HeldFiles
from sinks._libraries import library
from sinks._scalars import NUMBERS, ScalarReader
from sinks._service_settings import FALSE, TRUE, word
from sinks._tracked import is_repeated, is_wanted, last_name

__all__ = ["DvcliveSink"]

_NAMES: Final = {"checkpoint": "model"}
"""What DVC calls kinds of artifacts."""


def _when(value: object) -> object:
    """HF_DVCLIVE_LOG_MODEL is yes, no or all."""
    told = word(value)
    return "end" if told in TRUE else "never" if told in FALSE else told


class DvcliveSink(BlockingSink):
    """DVCLive: metrics, parameters and models in files that DVC shows and compares.

    In a Git repository with DVC the run becomes an experiment when it ends (`dvc exp show`);
    elsewhere the files are written all the same, without models. The folder is DVCLive's own: the
    first process of a run empties it, as `Live()` does.
    """

    name: ClassVar[str] = "dvclive"
    wants: ClassVar[tuple[type[Event], ...]] = (
        *NUMBERS,
        ParametersLogged,
        CheckpointSaved,
        ArtifactReady,
    )
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="rewrites",
        note="the part of a table that was not acknowledged is cut off; a power failure may cost "
        "the last rows",
    )
    help: ClassVar[str] = "https://dvc.org/doc/dvclive"

    class Settings(SinkSettings, env_prefix="DVCLIVE_", populate_by_name=True):
        """Where the files are, and what is kept."""

        dir: Path = Field(Path("dvclive"), description="DVCLive's folder")
        save_dvc_exp: bool = Field(
            default=True, description="whether the run becomes an experiment when it ends"
        )
        exp_name: str | None = Field(
            default=None,
            validation_alias="DVC_EXP_NAME",
            description="the experiment's name; DVC makes one up by default",
        )
        dvcyaml: bool = Field(
            default=True, description="whether dvc.yaml names the plots, metrics and parameters"
        )
        log_model: Annotated[Literal["never", "end", "all"], BeforeValidator(_when)] = Field(
            default="never",
            validation_alias="HF_DVCLIVE_LOG_MODEL",
            description="which files DVC keeps: never, at the end (or true) the last checkpoint, "
            "or the best if that is loaded then; all as they are announced",
        )
        rewrite: bool | None = Field(
            default=None,
            description="Whether metrics are renamed as Transformers does: `eval_loss` to "
            "`eval/loss`, `train_loss` to `train/loss`; by default if it is `runtime.Trainer` "
            "that trains.",
        )

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _folder: Path
    _reader: ScalarReader
    _live: Any = None

    def bind(self, context: SinkContext) -> None:
        """Take a relative path as the program means it, which may change its folder later."""
        del context
        self._folder = self.settings.dir.absolute()
        self._reader = ScalarReader(self.settings.rewrite, renamed)
        self._held = HeldFiles()

    def check_blocking(self) -> str:
        """Whether DVCLive is whole, and files can be made where they are to be."""
        library("dvclive", "dvclive")
        return check_folder(self._folder)

    def open_blocking(self, context: SinkContext, state: State) -> State:
        """Begin in an empty folder, or go on in the one that this run has."""
        del context
        known = Known.model_validate({"folder": str(self._folder), **state})
        resumed = bool(state) and known.folder == str(self._folder)
        if not resumed:
            known = Known(folder=str(self._folder), params=known.params)
        with refusals(self._folder):
            if resumed:
                settle(self._folder, known.sizes)
            self._live = library("dvclive", "dvclive").Live(
                dir=str(self._folder),
                resume=resumed,
                save_dvc_exp=self.settings.save_dvc_exp,
                dvcyaml="dvc.yaml" if self.settings.dvcyaml else None,
                exp_name=None if known.experiment else self.settings.exp_name,
            )
            attributes = cast("dict[str, object]", vars(self._live))
            if known.experiment:
                # Given as an argument, a name that is there already would become another one.
                attributes["_exp_name"] = known.experiment
            if known.params:
                self._live.log_params(known.params)
        known.experiment = str(attributes.get("_exp_name") or "")
        self.url: str | None = self._folder.as_uri()
        return known.model_dump()

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Append a batch's numbers, then renew the summary."""
        known = Known.model_validate(dict(state))
        with refusals(self._folder):
            settle(self._folder, known.sizes)  # an earlier try may have written some of it
            for event in batch.events:
                self._log(event, known)
            self._live.make_summary()
            known.sizes = sizes(self._folder)
        return known.model_dump()

    def close_blocking(self, outcome: Outcome, state: State) -> State:
        """Keep the model, and let DVCLive save the experiment."""
        known = Known.model_validate(dict(state))
        if known.closed == outcome:
            return state
        with refusals(self._folder):
            if self.settings.log_model == "end" and known.model:
                name = "best" if known.model == known.best and known.loads_best else "last"
                self._keep(known.model, kind="model", name=name, copy=True)
            self._live.end()
        known.closed = outcome
        return known.model_dump()

    def release_blocking(self) -> None:
        """Let go of the checkpoint that was to be kept."""
        self._held.release()

    def _log(self, event: Event, known: Known) -> None:
        known.pass_by(event)
        if isinstance(event, RunStarted):
            known.closed = None
            if event.resumed_from_step is not None:
                self._go_back(event.resumed_from_step)
            self._log_params(event.config, known)
        elif isinstance(event, ParametersLogged):
            self._log_params(event.parameters, known)
        elif isinstance(event, (CheckpointSaved, ArtifactReady)):
            self._announce(event, known)
        else:
            self._live.step = known.step
            for key, value in self._reader.numbers(event, trainer=known.trainer).items():
                self._live.log_metric(logged_name(key, self._live.summary), value)

    def _go_back(self, step: int) -> None:
        """Take tables and summary back to a step."""
        latest = drop_beyond(self._folder, step)
        self._live.summary.clear()
        for name, value in latest.items():
            self._live.log_metric(name, value, plot=False)

    def _log_params(self, params: Mapping[str, Any], known: Known) -> None:
        if params:
            known.params |= params
            self._live.log_params(dict(params))

    def _announce(self, event: CheckpointSaved | ArtifactReady, known: Known) -> None:
        """Remember which model to keep at the end, or keep what is there at once."""
        if isinstance(event, ArtifactReady) and "best" in event.aliases:
            known.best = event.path
        repeated = is_repeated(event, known)
        if self.settings.log_model == "end":
            known.remember(event)
            if known.model:
                self._held.hold(Path(known.model))
        elif not repeated and is_wanted(event, self.settings.log_model):
            kind = event.kind if isinstance(event, ArtifactReady) else "checkpoint"
            name = event.name if isinstance(event, ArtifactReady) else last_name(event.path)
            self._keep(event.path, kind=_NAMES.get(kind, kind), name=name, copy=False)

    def _keep(self, path: str, *, kind: str, name: str, copy: bool) -> None:
        """Let DVC have a file or a folder, which is not rotated away meanwhile."""
        if not Path(path).exists():
            return
        try:
            hold = FolderHold(path)
        except (FileNotFoundError, NotADirectoryError):
            self._live.log_artifact(path, type=kind, name=name, copy=copy)
            return
        with hold:
            self._live.log_artifact(path, type=kind, name=name, copy=copy)
