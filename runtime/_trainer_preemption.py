"""How a trainer gives its machine back: what it saves, what it leaves to whoever goes on."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus import Preempt
from runtime._callback_states import StoredStates, export_states, restore_states
from runtime._checkpoint_contents import SavedCheckpoint
from runtime._evaluation import EvaluationGivenUpError
from runtime._metrics import error_text
from runtime._preemption import Preempted, why_not_save
from runtime._resume import Resumed
from runtime._rng import RngState
from runtime._trainer_evaluation import Evaluation
from runtime._trainer_hub import Hub

log = logging.getLogger("runtime")

_OWED: Final = "owes_evaluation"
"""In a checkpoint: the evaluation of its step was given up; true if a save was due after it."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What an evaluation changes although it is given up.

    Attributes:
        generators: Where they stood.
        logged: How many entries the log had.
        callbacks: What the callbacks remembered.
    """

    generators: RngState
    logged: int
    callbacks: StoredStates


class Preemption(Evaluation, Hub):
    """The methods with which a preempted training comes to its end."""

    _longest_save: float | None = None
    _saved: tuple[int, bool | None] | None = None
    _owed: bool | None = None

    def evaluate_in_training(self, *, best: bool) -> dict[str, float]:
        """As in the parent; given up, and left to whoever goes on, when a preemption comes.

        What it has changed by then is put back, so that the repetition ends with the same bits.
        """
        callbacks = export_states(self.callback_handler, self.control)
        before = _Before(RngState.capture(), len(self.state.log_history), callbacks)
        if self.run.control.preemption is None:  # since the safe point just before
            self._may_give_up = True
            try:
                return super().evaluate_in_training(best=best)
            except EvaluationGivenUpError:
                log.warning("the evaluation at step %d is given up", self.state.global_step)
            finally:
                self._may_give_up = False
        before.generators.restore()
        del self.state.log_history[before.logged :]
        restore_states(self.callback_handler, before.callbacks)
        if best:  # the other one comes at every start
            self._owed = self.control.should_save
        self.apply_requests()
        return {}

    def leave_if_preempted(self) -> None:
        """End training here if a preemption took effect, with a checkpoint if there is time.

        Raises:
            Preempted: It did.
        """
        request = self.run.control.preemption
        if request is None:
            return
        if self._saved != (self.state.global_step, self._owed):
            with self.run.phase("saving"):
                self._save_for(request)
        raise Preempted(request)

    def pay_debt(self) -> bool:
        """Do the evaluation that an earlier attempt has given up; tell whether there was one."""
        save, self._owed = self._owed, None
        if save is None or self.args.eval_strategy == "no":
            return False
        control, state = self.control, self.state  # whose flags are as they were then
        control.should_save |= save
        control.should_training_stop |= state.global_step >= state.max_steps
        self.evaluate_in_training(best=True)
        self.leave_if_preempted()
        if self.control.should_save:
            self.save_checkpoint()
        return True

    def preempted_by(self, error: Exception) -> Preempted | None:
        """Whether training failed while it was asked to leave, and then what to end with instead.

        A signal to all processes of a job ends the workers that load data, and that fails in the
        loop; what such a step has left behind is not fit to be saved.
        """
        request = self.run.give_way(error, self.state.global_step)
        if request is None:
            return None
        if self._rank_states is not None:
            self._rank_states.give_up()
        log.error("training failed while it was asked to leave", exc_info=error)
        self._tell_unsaved(request, f"the step before had failed with {error_text(error)}")
        return Preempted(request)

    def wait_for_checkpoint(self, request: Preempt, seconds: float) -> None:
        """Wait until the checkpoint under way is complete; say so if that takes too long."""
        if not self._checkpoints.wait(seconds):
            self._tell_unsaved(request, f"the one under way was not complete after {seconds:.1f} s")

    def note_resumed(self, resumed: Resumed | None) -> None:
        """As in the parent; remember what is saved already, and what is owed, too."""
        super().note_resumed(resumed)
        owed = resumed.checkpoint.loop.get(_OWED) if resumed is not None else None
        self._owed = owed if isinstance(owed, bool) else None
        self._saved = (self.state.global_step, self._owed) if resumed is not None else None

    def _save_for(self, request: Preempt) -> None:
        why = why_not_save(request.seconds_left(), self._longest_save)
        if self.state.global_step == 0:
            why = "no step has been taken"
        why = self._group.said_by_first(why)  # clocks differ, and all save or none
        if why is None:
            self.save_checkpoint()
        else:
            self._tell_unsaved(request, why)

    def _tell_unsaved(self, request: Preempt, why: str) -> None:
        text = f"no checkpoint is saved at step {self.state.global_step}, on {request.by}: {why}"
        log.warning("%s", text)
        self.run.alert("preempted without a checkpoint", text, step=self.state.global_step)

    def _tell_saved(self, path: Path) -> None:
        self._saved = (self.state.global_step, self._owed)
        super()._tell_saved(path)

    def _checkpoint_is_complete(self, saved: SavedCheckpoint) -> None:
        self._longest_save = max(self._longest_save or 0.0, saved.seconds)
        super()._checkpoint_is_complete(saved)

    def _loop_state(self) -> dict[str, object]:
        kept = super()._loop_state()
        return kept if self._owed is None else {**kept, _OWED: self._owed}
