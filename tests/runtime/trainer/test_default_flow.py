"""When logging, evaluation, saving and the end are asked for by default."""

from dataclasses import dataclass

import pytest

from runtime import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState

NAMES = ("log", "evaluate", "save", "training_stop", "epoch_stop")


@dataclass
class Arguments:
    """The part of the training's arguments that the default flow reads."""

    logging_strategy: str = "no"
    eval_strategy: str = "no"
    save_strategy: str = "no"
    logging_first_step: bool = False
    eval_delay: float = 0


def asked(control):
    return {name for name in NAMES if getattr(control, f"should_{name}")}


def after_step(step, arguments, **state):
    handler = CallbackHandler([DefaultFlowCallback], None, None, None, None)
    control, state = TrainerControl(), TrainerState(**{"max_steps": 100, **state})
    handler.on_step_begin(arguments, state, control)
    state.global_step = step
    handler.on_step_end(arguments, state, control)
    return asked(control)


def after_epoch(epoch, arguments):
    handler = CallbackHandler([DefaultFlowCallback], None, None, None, None)
    control = TrainerControl()
    handler.on_epoch_end(arguments, TrainerState(epoch=epoch, global_step=9), control)
    return asked(control)


class TestSteps:
    @pytest.mark.parametrize("kind", ["log", "evaluate", "save"])
    def test_each_by_its_own_interval(self, kind):
        """Every n-th step, by the state's interval."""
        strategy = {"log": "logging", "evaluate": "eval", "save": "save"}[kind]
        arguments = Arguments(**{f"{strategy}_strategy": "steps"})
        found = [
            step for step in range(1, 10) if after_step(step, arguments, **{f"{strategy}_steps": 3})
        ]

        assert found == [3, 6, 9]

    def test_nothing_without_a_strategy(self):
        """Nothing is asked for if every strategy is "no"."""
        state = {"logging_steps": 1, "eval_steps": 1, "save_steps": 1}
        assert not any(after_step(step, Arguments(), **state) for step in range(1, 10))

    @pytest.mark.parametrize("strategy", ["no", "epoch", "steps"])
    def test_logging_first_step_whatever_the_strategy(self, strategy):
        """The first step is logged if that is asked, and no other for it."""
        arguments = Arguments(logging_strategy=strategy, logging_first_step=True)

        assert after_step(1, arguments) == {"log"}
        assert after_step(2, arguments) == set()

    def test_evaluation_waits_for_its_delay(self):
        """Steps before `eval_delay` are not evaluated, that step is."""
        arguments = Arguments(eval_strategy="steps", eval_delay=4)
        found = [step for step in range(1, 10) if after_step(step, arguments, eval_steps=2)]

        assert found == [4, 6, 8]

    def test_no_save_by_steps_with_an_interval_of_0(self):
        """`save_steps=0` saves at the end alone."""
        arguments = Arguments(save_strategy="steps")
        found = {step: after_step(step, arguments, save_steps=0, max_steps=6) for step in range(7)}

        assert {step: flags for step, flags in found.items() if flags} == {
            6: {"save", "training_stop"}
        }


class TestEnd:
    def test_the_last_step_is_evaluated_and_saved(self):
        """With strategies by steps, the end is evaluated and saved off schedule; not logged."""
        arguments = Arguments(
            logging_strategy="steps", eval_strategy="steps", save_strategy="steps"
        )

        assert after_step(7, arguments, max_steps=7) == {"evaluate", "save", "training_stop"}
        assert after_step(8, arguments, max_steps=7) == {"evaluate", "save", "training_stop"}

    @pytest.mark.parametrize("strategy", ["no", "epoch", "best"])
    def test_the_last_step_only_ends_it_otherwise(self, strategy):
        """With other strategies the end is just the end."""
        other = "epoch" if strategy == "best" else strategy
        arguments = Arguments(other, other, strategy)

        assert after_step(7, arguments, max_steps=7) == {"training_stop"}

    def test_the_delay_holds_at_the_end_too(self):
        """The last step is not evaluated before `eval_delay`."""
        arguments = Arguments(eval_strategy="steps", eval_delay=8)

        assert after_step(7, arguments, max_steps=7) == {"training_stop"}


class TestEpochs:
    def test_each_by_its_own_strategy(self):
        """At the end of an epoch what counts in epochs is due, and nothing else."""
        assert after_epoch(1.0, Arguments("epoch")) == {"log"}
        assert after_epoch(1.0, Arguments("steps", "epoch")) == {"evaluate"}
        assert after_epoch(1.0, Arguments("steps", "steps", "epoch")) == {"save"}
        assert after_epoch(1.0, Arguments("epoch", "epoch", "best")) == {"log", "evaluate"}

    def test_the_delay_counts_epochs_here(self):
        """`eval_delay` is compared with the epoch, fractions included."""
        arguments = Arguments(eval_strategy="epoch", eval_delay=1.5)

        assert [epoch for epoch in (1.0, 1.5, 2.0) if after_epoch(epoch, arguments)] == [1.5, 2.0]


def test_takes_no_flag_back():
    """What another callback asked for stays."""
    control = TrainerControl(True, True, True, True, True)
    handler = CallbackHandler([DefaultFlowCallback], None, None, None, None)
    handler.on_step_end(Arguments(), TrainerState(global_step=1, max_steps=9), control)
    handler.on_epoch_end(Arguments(), TrainerState(global_step=1, max_steps=9), control)

    assert asked(control) == set(NAMES)
