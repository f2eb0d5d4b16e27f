"""The state of a training, as it is kept, written and read."""

import json
import logging
import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch

from runtime import TRAINER_STATE_NAME, ExportableState, Logs, TrainerControl, TrainerState

UPSTREAM = """\
{
  "best_global_step": null,
  "best_metric": Infinity,
  "best_model_checkpoint": null,
  "epoch": 0,
  "eval_steps": 500,
  "global_step": 0,
  "is_hyper_param_search": false,
  "is_local_process_zero": true,
  "is_world_process_zero": true,
  "log_history": [
    {
      "epoch": 0.5,
      "loss": NaN,
      "step": 1
    }
  ],
  "logging_steps": 500,
  "max_steps": 8,
  "num_input_tokens_seen": 0,
  "num_train_epochs": 0,
  "save_steps": 500,
  "stateful_callbacks": {
    "TrainerControl": {
      "args": {
        "should_epoch_stop": false,
        "should_evaluate": false,
        "should_log": false,
        "should_save": true,
        "should_training_stop": false
      },
      "attributes": {}
    }
  },
  "total_flos": 0,
  "train_batch_size": null,
  "trial_name": null,
  "trial_params": null
}
"""
"""What transformers 5.23.0 writes for the state below."""


@pytest.fixture
def path(tmp_path):
    """Where the state is written."""
    return tmp_path / TRAINER_STATE_NAME


@dataclass
class Arguments:
    """The part of the training's arguments that a state takes over."""

    logging_strategy: str = "steps"
    eval_strategy: str = "steps"
    save_strategy: str = "steps"
    logging_steps: float = 500
    eval_steps: float | None = 500
    save_steps: float = 500
    train_batch_size: int = 8


class Arriving:
    """A device whose number is there at the third look."""

    def __init__(self, **found):
        self.found = found
        self.looks = 0

    def ready(self):
        self.looks += 1
        return self.looks >= 3

    def values(self):
        return self.found


class TestFile:
    def test_is_upstreams_to_the_byte(self, path):
        """Sorted keys, indent 2, a newline at the end, and NaN and Infinity written bare."""
        state = TrainerState(
            max_steps=8,
            best_metric=math.inf,
            log_history=[{"loss": math.nan, "epoch": 0.5, "step": 1}],
            stateful_callbacks={"TrainerControl": TrainerControl(should_save=True).state()},
        )
        state.save_to_json(path)

        assert path.read_text() == UPSTREAM
        again = TrainerState.load_from_json(str(path))
        assert again.to_json() == UPSTREAM

    def test_every_field_survives(self, path):
        """What is written is read."""
        state = TrainerState(
            epoch=1.5,
            global_step=12,
            max_steps=24,
            logging_steps=1.0,
            train_batch_size=4,
            num_train_epochs=3,
            num_input_tokens_seen=99,
            total_flos=1e18,
            log_history=[{"loss": 1.0, "step": 12}],
            best_metric=0.25,
            best_global_step=10,
            best_model_checkpoint="out/checkpoint-10",
            is_world_process_zero=False,
            trial_params={"lr": 0.1},
            stateful_callbacks={"Mine": [{"args": {}, "attributes": {"seen": [1, 2]}}] * 2},
        )
        state.save_to_json(path)

        assert TrainerState.load_from_json(path) == state

    def test_numbers_of_numpy_and_of_a_device_become_plain(self, path):
        """Scalars of numpy, tensors with one element and late numbers are written as numbers."""
        late = Logs({"epoch": 0.5}, device=Arriving(loss=2.5), order=("loss", "epoch"))
        late["step"] = 3
        state = TrainerState(
            log_history=[
                late,
                {"a": np.float32(0.5), "b": np.float64(0.25), "c": np.int64(7), "d": np.True_},
                {"tensor": torch.tensor(1.5), "text": "as it is"},
            ],
        )
        state.save_to_json(path)

        assert json.loads(path.read_text())["log_history"] == [
            {"loss": 2.5, "epoch": 0.5, "step": 3},
            {"a": 0.5, "b": 0.25, "c": 7, "d": True},
            {"tensor": 1.5, "text": "as it is"},
        ]

    @pytest.mark.parametrize("value", [np.zeros(2), torch.zeros(2), object(), {1, 2}])
    def test_what_is_no_number_is_named(self, value):
        """An array or an object in the history is an error that shows it."""
        state = TrainerState(log_history=[{"loss": value}])
        with pytest.raises(TypeError, match=r"cannot be written to trainer_state\.json; log plain"):
            state.to_json()

    def test_unknown_fields_are_left_out_with_a_notice(self, path, caplog):
        """A field of some other version does not stop a resume; missing ones have defaults."""
        path.write_text('{"global_step": 5, "later_invention": 1, "another": 2}')
        state = TrainerState.load_from_json(path)

        assert state == TrainerState(global_step=5)
        (notice,) = caplog.messages
        assert "another, later_invention" in notice
        assert str(path) in notice

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ('{"global_step": 5', "Expecting"),
            ("[1, 2]", r"holds \[1, 2\], not an object"),
            ("\xff\xfe", "damaged"),
            ('{"global_step": "many"}', "global_step is 'many', not an integer"),
            ('{"log_history": {}}', r"log_history is \{\}, not a list"),
            ('{"stateful_callbacks": []}', r"stateful_callbacks is \[\], not an object"),
            ('{"epoch": null}', "epoch is None, not a number"),
        ],
    )
    def test_a_damaged_file_is_named(self, path, text, why):
        """The error says which file, what is wrong with it, and what to do."""
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=why) as caught:
            TrainerState.load_from_json(path)

        assert str(path) in str(caught.value)
        assert "resume from another checkpoint" in str(caught.value)

    def test_a_missing_file(self, path):
        """No file is an ordinary FileNotFoundError."""
        with pytest.raises(FileNotFoundError):
            TrainerState.load_from_json(path)


class TestSteps:
    @pytest.mark.parametrize(
        ("asked", "max_steps", "found"),
        [(7, 100, 7), (0.1, 101, 11), (1.0, 50, 1.0), (0, 6, 0), (-1, 6, -6), (None, 6, 500)],
    )
    def test_intervals(self, asked, max_steps, found):
        """Below 1 it is a share of max_steps, rounded up; from 1 on copied; None is skipped."""
        state = TrainerState()
        state.compute_steps(Arguments(eval_steps=asked), max_steps)

        assert state.eval_steps == found
        assert type(state.eval_steps) is type(found)

    def test_arguments_win_over_a_checkpoint_with_one_notice(self, caplog):
        """Resuming with other intervals or batch size uses the new ones and names each."""
        state = TrainerState(global_step=4, logging_steps=2, save_steps=3, train_batch_size=4)
        state.compute_steps(Arguments(logging_steps=7, save_steps=3), 100)

        assert (state.logging_steps, state.eval_steps, state.save_steps) == (7, 500, 3)
        (notice,) = caplog.messages
        assert notice.endswith("logging_steps=7 (was 2), train_batch_size=8 (was 4)")

    @pytest.mark.parametrize(
        ("state", "arguments"),
        [
            (TrainerState(), Arguments(logging_steps=7)),
            (TrainerState(global_step=4, train_batch_size=8), Arguments()),
            (
                TrainerState(global_step=4, logging_steps=2),
                Arguments(logging_strategy="epoch", logging_steps=7),
            ),
        ],
        ids=["fresh", "equal", "interval not in use"],
    )
    def test_no_notice_without_reason(self, caplog, state, arguments):
        """A new training, equal arguments, or intervals that are not in use say nothing."""
        with caplog.at_level(logging.INFO, "runtime"):
            state.compute_steps(arguments, 100)

        assert not caplog.messages


class TestSnapshot:
    def test_later_steps_leave_it_alone(self):
        """What is written in the background is the state of the moment of saving."""
        state = TrainerState(global_step=3, log_history=[{"loss": 1.0}])
        snapshot = state.snapshot()
        state.global_step += 1
        state.log_history.append({"loss": 2.0})

        assert snapshot == TrainerState(global_step=3, log_history=[{"loss": 1.0}])

    def test_reads_nothing_from_a_device(self):
        """Numbers that are on their way stay so until the text is made."""
        device = Arriving(loss=1.0)
        state = TrainerState(log_history=[Logs(device=device, order=["loss"])])
        snapshot = state.snapshot()

        assert device.looks == 0
        assert json.loads(snapshot.to_json())["log_history"] == [{"loss": 1.0}]


class TestControl:
    def test_has_five_flags(self):
        """All off at first; its state holds them all, and brings them back."""
        control = TrainerControl()
        assert [getattr(control, each.name) for each in fields(control)] == [False] * 5

        control = TrainerControl(should_save=True, should_epoch_stop=True)
        assert TrainerControl.from_state(control.state()) == control
        assert control.state()["attributes"] == {}


class TestExportable:
    def test_comes_back_with_its_arguments_and_memory(self):
        """`from_state` makes an equal object of what `state` returned."""

        class Counter(ExportableState):
            def __init__(self, start):
                self.start = start
                self.count = start

            def state(self):
                return {"args": {"start": self.start}, "attributes": {"count": self.count}}

        counter = Counter(3)
        counter.count = 8
        again = Counter.from_state(counter.state())

        assert (again.start, again.count) == (3, 8)

    def test_must_say_what_to_remember(self):
        """A subclass that forgot `state` is named when it is asked."""

        class Forgetful(ExportableState):
            pass

        with pytest.raises(NotImplementedError, match="Forgetful is an ExportableState without"):
            Forgetful().state()
