"""How callbacks are kept, called, isolated and remembered."""

import json
import logging
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from runtime import (
    DEFAULT_CALLBACKS,
    CallbackHandler,
    DefaultFlowCallback,
    EarlyStoppingCallback,
    ExportableState,
    Logs,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from runtime._callback_states import export_states, restore_states
from runtime._callbacks import HOOKS

ARGUMENTS = SimpleNamespace(
    logging_first_step=False,
    logging_strategy="no",
    eval_strategy="no",
    save_strategy="no",
)
FLAGS = ("training_stop", "epoch_stop", "save", "evaluate", "log")
EXTRA = {
    "on_log": {"logs": {"loss": 1.0}},
    "on_evaluate": {"metrics": {"eval_loss": 1.0}},
    "on_predict": {"metrics": {"test_loss": 1.0}},
}
CLEARED = {
    "on_train_begin": {"training_stop"},
    "on_epoch_begin": {"epoch_stop"},
    "on_step_begin": {"log", "evaluate", "save"},
    "on_log": {"log"},
    "on_evaluate": {"evaluate"},
    "on_save": {"save"},
}


class Listener(TrainerCallback):
    """Notes every hook it is called with."""

    def __init__(self):
        self.calls = []

    def note(self, hook, args, state, control, kwargs):
        set_flags = {name for name in FLAGS if getattr(control, f"should_{name}")}
        self.calls.append((hook, args, state, control, set_flags, kwargs))

    @property
    def hooks(self):
        return [call[0] for call in self.calls]


def _listen(hook):
    def listen(self, args, state, control, **kwargs):
        self.note(hook, args, state, control, kwargs)

    return listen


for _hook in (*HOOKS, "on_exception"):
    setattr(Listener, _hook, _listen(_hook))


class Silent(TrainerCallback):
    """Overrides nothing."""


def handler_of(*callbacks):
    return CallbackHandler([DefaultFlowCallback, *callbacks], "model", "tokenizer", None, None)


def call(handler, hook, control=None):
    control = control or TrainerControl()
    return getattr(handler, hook)(
        ARGUMENTS, TrainerState(max_steps=9), control, **EXTRA.get(hook, {})
    )


def acting(hook, action):
    """A callback of a class of its own that does something in one hook."""

    def act(_self, _args, _state, control, **_):
        return action(control)

    return type("Acting", (TrainerCallback,), {hook: act})()


class TestCalling:
    @pytest.mark.parametrize("hook", HOOKS)
    def test_each_hook_gets_what_it_is_promised(self, hook):
        """Arguments, state and control by position, the rest by keyword, nothing else."""
        listener = Listener()
        handler = handler_of(listener)
        handler.optimizer, handler.lr_scheduler = "optimizer", "scheduler"
        handler.train_dataloader, handler.eval_dataloader = "train", "eval"
        control = TrainerControl()
        assert call(handler, hook, control) is control

        ((name, args, state, given, _, kwargs),) = listener.calls
        assert (name, args, given) == (hook, ARGUMENTS, control)
        assert isinstance(state, TrainerState)
        assert kwargs == {
            "model": "model",
            "processing_class": "tokenizer",
            "optimizer": "optimizer",
            "lr_scheduler": "scheduler",
            "train_dataloader": "train",
            "eval_dataloader": "eval",
            **EXTRA.get(hook, {}),
        }

    @pytest.mark.parametrize("hook", HOOKS)
    def test_flags_are_cleared_before_the_callbacks_run(self, hook):
        """Each hook takes back the flags of the table, and callbacks can set them again."""
        listener = Listener()
        control = TrainerControl(True, True, True, True, True)
        call(handler_of(listener), hook, control)
        seen = listener.calls[0][4]
        again = acting(hook, lambda control: setattr(control, "should_log", True))
        control = TrainerControl()
        call(CallbackHandler([DefaultFlowCallback, again], None, None, None, None), hook, control)

        assert seen == set(FLAGS) - CLEARED.get(hook, set())
        assert control.should_log

    def test_in_the_order_of_the_list(self):
        """Each callback is given the control that the one before it returned."""
        fresh = TrainerControl(should_log=True)
        first, second, last = Listener(), acting("on_step_end", lambda _: fresh), Listener()
        silent = Silent()
        handler = CallbackHandler([first, second, silent, last], None, None, None, None)
        result = call(handler, "on_step_end", control := TrainerControl())

        assert result is fresh
        assert first.calls[0][3] is control
        assert last.calls[0][3] is fresh

    @pytest.mark.parametrize("result", [True, {}, "stop", object()])
    def test_a_wrong_result_is_named(self, result):
        """A hook that returns neither a control nor nothing is named with what it returned."""
        callback = acting("on_step_end", lambda _: result)
        with pytest.raises(TypeError, match=r"returned .*; a hook returns the control, or nothing"):
            call(handler_of(callback), "on_step_end")

    def test_each_callback_has_its_own_logs(self):
        """What one callback does to the logs is seen by nobody else."""
        seen = []

        class Greedy(TrainerCallback):
            def on_log(self, _args, _state, _control, logs=None, **_):
                seen.append(dict(logs))
                logs.pop("total_flos")
                logs["own"] = 1.0

        logs = {"loss": 1.0, "total_flos": 2.0}
        handler = handler_of(Greedy(), Greedy())
        handler.on_log(ARGUMENTS, TrainerState(), TrainerControl(), logs)

        assert seen == [logs, logs]
        assert logs == {"loss": 1.0, "total_flos": 2.0}

    def test_logging_reads_nothing_from_a_device(self):
        """Handing late numbers round does not look at them."""

        class Device:
            def ready(self):
                raise AssertionError("somebody looked")

            values = ready

        listener = Listener()
        late = Logs(device=Device(), order=["loss"])
        handler_of(listener, Listener()).on_log(ARGUMENTS, TrainerState(), TrainerControl(), late)

        assert list(listener.calls[0][5]["logs"]) == ["loss"]

    def test_an_event_of_ones_own(self):
        """`call_event` calls a hook of any name on those who have it, and refuses a slip."""

        class Own(TrainerCallback):
            def on_tea(self, _args, _state, control, *, sugar, **_):
                control.should_epoch_stop = sugar

        handler, control = handler_of(Own(), Silent()), TrainerControl()
        handler.call_event("on_tea", ARGUMENTS, TrainerState(), control, sugar=True)

        assert control.should_epoch_stop
        with pytest.raises(AttributeError, match="no callback has a hook 'on_stpe_end'"):
            handler.call_event("on_stpe_end", ARGUMENTS, TrainerState(), control)


class TestFailing:
    def test_propagates_and_ends_the_round(self):
        """By default the first exception is the loop's, and later callbacks are not called."""
        later = Listener()
        handler = handler_of(acting("on_step_end", lambda _: 1 / 0), later)
        with pytest.raises(ZeroDivisionError):
            call(handler, "on_step_end")

        assert later.calls == []

    def test_isolated_it_is_reported_and_the_others_go_on(self):
        """With `isolate` the failure goes there, with callback and hook; a wrong result too."""
        reports, later = [], Listener()
        bad, wrong = acting("on_save", lambda _: 1 / 0), acting("on_save", lambda _: "yes")
        handler = handler_of(bad, wrong, later)
        handler.isolate = lambda *report: reports.append(report)
        control = TrainerControl()
        result = call(handler, "on_save", control)

        assert result is control
        assert [(callback, hook, type(error)) for callback, hook, error in reports] == [
            (bad, "on_save", ZeroDivisionError),
            (wrong, "on_save", TypeError),
        ]
        assert later.hooks == ["on_save"]

    def test_an_interrupt_is_never_isolated(self):
        """Ctrl-C in a hook ends the training even so."""

        def interrupt(_):
            raise KeyboardInterrupt

        handler = handler_of(acting("on_save", interrupt))
        handler.isolate = Mock()
        with pytest.raises(KeyboardInterrupt):
            call(handler, "on_save")

    def test_on_exception_reaches_everyone(self, caplog):
        """All who have the hook hear of the failure; what they raise themselves hides nothing."""
        listener, failure = Listener(), RuntimeError("out of memory")
        without = Mock(spec=list(HOOKS))
        handler = handler_of(acting("on_exception", lambda _: 1 / 0), without, listener)
        handler.on_exception(ARGUMENTS, TrainerState(), TrainerControl(), failure)

        assert listener.hooks == ["on_exception"]
        assert listener.calls[0][5]["exception"] is failure
        assert "Acting.on_exception failed" in caplog.text
        assert "ZeroDivisionError" in caplog.text


class TestChangingTheList:
    def test_during_an_event_nobody_is_skipped(self):
        """The round under way goes over the list it began with; the next over the new one."""
        added, last = Listener(), Listener()

        class Leaving(TrainerCallback):
            def on_step_end(self, _args, _state, _control, **_):
                handler.remove_callback(self)
                handler.add_callback(added)

        handler = handler_of(Leaving(), last)
        call(handler, "on_step_end")
        assert (added.hooks, last.hooks) == ([], ["on_step_end"])

        call(handler, "on_step_end")
        assert (added.hooks, last.hooks) == (["on_step_end"], ["on_step_end"] * 2)
        assert handler.callback_list == "DefaultFlowCallback\nListener\nListener"

    def test_in_place_by_the_user(self):
        """Changes of the list itself are seen at the next call."""
        listener, handler = Listener(), handler_of()
        call(handler, "on_epoch_end")
        handler.callbacks.insert(0, listener)
        call(handler, "on_epoch_end")
        handler.callbacks[0] = other = Listener()
        call(handler, "on_epoch_end")

        assert (listener.hooks, other.hooks) == (["on_epoch_end"], ["on_epoch_end"])

    def test_a_hook_set_on_an_object_counts_from_the_next_training(self):
        """Hooks given to an object between two trainings are called."""
        silent = Silent()
        handler = handler_of(silent)
        call(handler, "on_step_end")
        silent.on_step_end = Mock(return_value=None)
        call(handler, "on_train_begin")
        call(handler, "on_step_end")

        silent.on_step_end.assert_called_once()


class TestAdding:
    def test_a_class_is_made(self):
        """A class is instantiated; an object is taken as it is."""
        listener = Listener()
        handler = handler_of(Silent, listener)

        assert [type(each) for each in handler.callbacks] == [DefaultFlowCallback, Silent, Listener]
        assert handler.callbacks[2] is listener
        assert handler.callback_list == "DefaultFlowCallback\nSilent\nListener"

    def test_a_second_of_a_class_is_added_with_a_notice(self, caplog):
        """Two of one class are both called, after a notice; a subclass is another class."""

        class Louder(Listener):
            pass

        first, second, louder = Listener(), Listener(), Louder()
        handler = handler_of(first, louder, second, first)
        call(handler, "on_save")

        assert len(caplog.messages) == 2
        assert "already a Listener among the callbacks (DefaultFlow" in caplog.messages[0]
        assert (first.hooks, second.hooks, louder.hooks) == (
            ["on_save"] * 2,
            ["on_save"],
            ["on_save"],
        )

    def test_without_a_default_flow_there_is_a_notice(self, caplog):
        """A handler without one says what will not happen; with one it is silent."""
        CallbackHandler(DEFAULT_CALLBACKS, None, None, None, None)
        assert not caplog.messages
        CallbackHandler([Silent], None, None, None, None)

        assert "no DefaultFlowCallback among the callbacks (Silent)" in caplog.messages[0]

    @pytest.mark.parametrize("wrong", [42, None, "on_log", [Silent()], print, int, object()])
    def test_what_is_no_callback_is_refused_at_once(self, wrong):
        """Something without hooks is a TypeError that shows it."""
        with pytest.raises(TypeError, match="is no callback, it has none of the hooks; make a sub"):
            handler_of(wrong)

    def test_a_missing_hook_is_named(self):
        """An object with all hooks is a callback; one that lacks some is told which."""
        handler_of(Mock(spec=list(HOOKS)))
        with pytest.raises(TypeError, match="it has no on_push_begin; make"):
            handler_of(Mock(spec=[hook for hook in HOOKS if hook != "on_push_begin"]))

    def test_a_class_that_needs_arguments_is_named(self):
        """The error says which class, and to pass an object."""

        class Needy(TrainerCallback):
            def __init__(self, what):
                self.what = what

        with pytest.raises(TypeError, match=r"Needy cannot be made .*'what'.*; pass an object, "):
            handler_of(Needy)


class TestRemoving:
    def test_pop(self):
        """By class the first of it or of a subclass, by object the equal one; otherwise None."""
        listener, silent = Listener(), Silent()
        handler = handler_of(silent, listener)

        assert handler.pop_callback(Listener) is listener
        assert handler.pop_callback(listener) is None
        assert handler.pop_callback(EarlyStoppingCallback) is None
        assert type(handler.pop_callback(TrainerCallback)) is DefaultFlowCallback
        assert handler.pop_callback(silent) is silent
        assert handler.callbacks == []

    def test_remove(self):
        """A class that is not there is passed over, an object that is not there is an error."""
        listener = Listener()
        handler = handler_of(listener)
        handler.remove_callback(EarlyStoppingCallback)
        handler.remove_callback(listener)
        handler.remove_callback(DefaultFlowCallback)

        assert handler.callbacks == []
        with pytest.raises(ValueError, match=r"is not among the callbacks \(none\); pass the obj"):
            handler.remove_callback(listener)


class Counting(TrainerCallback, ExportableState):
    """Remembers a number."""

    def __init__(self, start=0):
        self.start = self.count = start

    def state(self):
        return {"args": {"start": self.start}, "attributes": {"count": self.count}}


class TestRemembering:
    def test_has_upstreams_shape(self):
        """One state by class name, a list if a class has several objects, and the control."""
        handler = handler_of(Counting(1), EarlyStoppingCallback(3), Counting(2), Silent())
        stored = export_states(handler, TrainerControl(should_save=True))

        assert stored == {
            "Counting": [
                {"args": {"start": 1}, "attributes": {"count": 1}},
                {"args": {"start": 2}, "attributes": {"count": 2}},
            ],
            "EarlyStoppingCallback": EarlyStoppingCallback(3).state(),
            "TrainerControl": TrainerControl(should_save=True).state(),
        }

    def test_is_the_same_size_at_every_save(self):
        """Saving again replaces what was remembered before (upstream appends)."""
        handler = handler_of(Counting(1), Counting(2))
        first = export_states(handler, TrainerControl())
        handler.callbacks[1].count = 7
        second = export_states(handler, TrainerControl())

        assert first["Counting"][0]["attributes"] == {"count": 1}
        assert [each["attributes"]["count"] for each in second["Counting"]] == [7, 2]

    def test_comes_back_to_the_users_own_objects(self, caplog):
        """Memory is set by position; the objects, their order and their arguments stay."""
        before = handler_of(Counting(1), Counting(2), EarlyStoppingCallback(5))
        for index, each in enumerate(before.callbacks[1:3]):
            each.count = 10 + index
        before.callbacks[3].early_stopping_patience_counter = 4
        stored = json.loads(json.dumps(export_states(before, TrainerControl())))
        mine = [Counting(7), EarlyStoppingCallback(9), Counting(8)]
        after = handler_of(*mine)
        caplog.clear()
        restore_states(after, stored)

        assert after.callbacks[1:] == mine
        assert [(each.start, each.count) for each in (mine[0], mine[2])] == [(7, 10), (8, 11)]
        assert mine[1].early_stopping_patience == 9
        assert mine[1].early_stopping_patience_counter == 4
        assert not caplog.messages

    def test_what_is_on_one_side_only_is_one_notice(self, caplog):
        """Callbacks that are new, or gone, are named once, and nothing fails."""
        stored = export_states(handler_of(Counting(), Counting()), TrainerControl())
        handler = handler_of(Counting(), EarlyStoppingCallback())
        caplog.clear()
        restore_states(handler, stored)

        (notice,) = caplog.messages
        assert "1 Counting no longer there" in notice
        assert "1 EarlyStoppingCallback new, which begins afresh" in notice

    @pytest.mark.parametrize(
        ("stored", "notice"),
        [
            ({"Counting": 3}, "Counting was stored as 3, without attributes"),
            ({"Counting": {"args": {}}}, "without attributes"),
            ({"Counting": {"attributes": {"on_log": 1}}}, "Counting.on_log is no attribute"),
            ({"Counting": {"attributes": {"__class__": 1}}}, "Counting.__class__ is no attribute"),
        ],
    )
    def test_a_damaged_memory_breaks_nothing(self, caplog, stored, notice):
        """What a file should not hold is named and left out; it never covers a hook."""
        counting = Counting(5)
        handler = handler_of(counting)
        restore_states(handler, stored)

        assert notice in caplog.text
        assert vars(counting) == {"start": 5, "count": 5}

    def test_a_memory_that_is_no_json_is_named(self):
        """At the save, not in its background, the error says whose state it is."""
        counting = Counting()
        counting.count = object()
        with pytest.raises(TypeError, match="the state of Counting cannot go into a checkpoint"):
            export_states(handler_of(counting), TrainerControl())


def test_hooks_nobody_overrides_are_not_looked_for_again(caplog):
    """A class without hooks is called by none of them; asking is silent and changes nothing."""
    handler, control = handler_of(Silent()), TrainerControl()
    with caplog.at_level(logging.DEBUG):
        for hook in HOOKS:
            if hook not in {"on_step_end", "on_epoch_end"}:
                assert call(handler, hook, control) is control

    assert control == TrainerControl()
    assert not caplog.messages
    assert handler._overriding["on_substep_end"] == ()
