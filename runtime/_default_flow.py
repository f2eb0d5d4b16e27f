"""`DefaultFlowCallback` asks for logging, evaluation, saving and the end as the arguments say."""

from typing import TYPE_CHECKING, ClassVar, Unpack

from typing_extensions import override

from runtime._callbacks import HookArguments, TrainerCallback

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments
    from runtime._state import TrainerControl, TrainerState


class DefaultFlowCallback(TrainerCallback):
    """Sets flags on schedule: strategies are the arguments', intervals the state's.

    It never takes a flag back, so what another callback asked for stays.
    """

    rank_consistent: ClassVar[bool] = True

    @override
    def on_step_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl":
        """What is due by steps; at the last step also an evaluation and a save."""
        step, last = state.global_step, state.global_step >= state.max_steps
        if args.logging_first_step and step == 1:
            control.should_log = True
        if args.logging_strategy == "steps" and step % state.logging_steps == 0:
            control.should_log = True
        if (
            args.eval_strategy == "steps"
            and step >= args.eval_delay
            and (last or step % state.eval_steps == 0)
        ):
            control.should_evaluate = True
        if args.save_strategy == "steps" and (
            last or (state.save_steps > 0 and step % state.save_steps == 0)
        ):
            control.should_save = True
        if last:
            control.should_training_stop = True
        return control

    @override
    def on_epoch_end(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> "TrainerControl":
        """What is due by epochs."""
        if args.logging_strategy == "epoch":
            control.should_log = True
        if args.eval_strategy == "epoch" and state.epoch >= args.eval_delay:
            control.should_evaluate = True
        if args.save_strategy == "epoch":
            control.should_save = True
        return control
