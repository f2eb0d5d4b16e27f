"""`ProgressCallback` and `PrinterCallback` show a training in the terminal or notebook.

Neither waits for the device: an entry whose numbers are on their way is shown, in its turn, at the
first later hook that finds them there, and at the latest when training ends. Neither shows anything
where a console shows a run in this process.
"""

from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Unpack, cast

from tqdm.auto import tqdm
from typing_extensions import override

from runtime._callbacks import (
    ExceptionArguments,
    HookArguments,
    MetricArguments,
    TrainerCallback,
)
from runtime._log_lines import LogLines
from runtime._shown import is_shown

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments
    from runtime._state import TrainerControl, TrainerState

_Bar: TypeAlias = "tqdm[Any]"

_PAUSE: Final = 0.1
"""Seconds between two redrawings of a bar that lines are written above; tqdm's own."""


class PrinterCallback(TrainerCallback):
    """Prints what is logged, a line each, in the first process of a machine."""

    def __init__(self) -> None:
        self._lines = LogLines(_print)
        self._training = False

    @override
    def on_train_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """From here on later hooks follow."""
        self._training = True

    @override
    def on_log(  # pyright: ignore[reportIncompatibleMethodOverride] - upstream's, who call it so
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        logs: dict[str, float],
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Print the entry, at once if nobody would come back for it."""
        if state.is_local_process_zero and not is_shown():
            self._lines.add(logs)
            if not self._training:
                self._lines.show_all()

    @override
    def on_step_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Print what has arrived meanwhile."""
        self._lines.show_ready()

    @override
    def on_train_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Print the rest."""
        self._training = False
        self._lines.show_all()

    @override
    def on_exception(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[ExceptionArguments],
    ) -> None:
        """Print what is there; the device that has the rest may be what failed."""
        self._training = False
        self._lines.show_last()


class ProgressCallback(TrainerCallback):
    """Shows bars for training and evaluation, and what is logged, in the first process of all.

    Args:
        max_str_len: Characters beyond which a text among the logged values is left out.

    Attributes:
        training_bar: The bar of the training that is under way.
        prediction_bar: The bar of the evaluation or prediction that is under way.
    """

    def __init__(self, max_str_len: int = 100) -> None:
        self.training_bar: _Bar | None = None
        self.prediction_bar: _Bar | None = None
        self._seen = 0
        self._lines = LogLines(self._write, longest=max_str_len, pause=_PAUSE)

    @override
    def on_train_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Open the bar; one that is still open, before a restart, is closed."""
        self._lines.show_last()
        self._close()
        self._seen = 0
        if state.is_world_process_zero and not is_shown():
            self.training_bar = tqdm(total=state.max_steps, dynamic_ncols=True)

    @override
    def on_step_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Move the bar to this step; the first step of a resumed training makes it jump."""
        if self.training_bar is not None:
            self.training_bar.update(state.global_step - self._seen)
            self._seen = state.global_step
            self._lines.show_ready()

    @override
    def on_prediction_step(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Move a bar of its own, if it is known how many batches there are."""
        if not state.is_world_process_zero or is_shown():
            return
        if self.prediction_bar is None:
            batches = _length(kwargs["eval_dataloader"])
            if batches is None:
                return
            self._lines.show_arrived()  # the next step, which would show them, is far off
            self.prediction_bar = tqdm(
                total=batches, leave=self.training_bar is None, dynamic_ncols=True
            )
        self.prediction_bar.update(1)

    @override
    def on_evaluate(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[MetricArguments],
    ) -> None:
        """Close that bar."""
        self._close_prediction_bar()

    @override
    def on_predict(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[MetricArguments],
    ) -> None:
        """Close that bar."""
        self._close_prediction_bar()

    @override
    def on_log(  # pyright: ignore[reportIncompatibleMethodOverride] - upstream's, who call it so
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        logs: dict[str, float],
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Write the entry above the training's bar; without one it is not written."""
        if self.training_bar is not None:
            self._lines.add(logs)

    @override
    def on_train_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Write the rest and close the bar."""
        self._lines.show_all()
        self._close()

    @override
    def on_exception(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[ExceptionArguments],
    ) -> None:
        """Write what is there and close the bars, so that the traceback stands below them."""
        try:
            self._lines.show_last()
        finally:
            self._close()

    def _write(self, line: str) -> None:
        if self.training_bar is not None:
            self.training_bar.write(line)

    def _close(self) -> None:
        self._close_prediction_bar()
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None

    def _close_prediction_bar(self) -> None:
        if self.prediction_bar is not None:
            self.prediction_bar.close()
            self.prediction_bar = None


def _print(line: str) -> None:
    print(line)  # noqa: T201 - it is what a printer is for


def _length(loader: "Iterable[object] | None") -> int | None:
    """How many batches a loader has, if it knows."""
    try:
        return len(cast("Sized", loader))
    except TypeError:  # none, or one over a dataset without a length
        return None
