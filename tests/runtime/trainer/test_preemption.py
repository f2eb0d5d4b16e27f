"""A trainer that is asked to leave saves if there is time, says what it did not, and requeues."""

import os
import signal
import time
from pathlib import Path

import pytest

import runtime
from bus import AlertRaised, JournalReader, Preempt, RunEnded, RunInfo, Stop
from runtime._preemption import closing_budget, why_not_save
from runtime._requeue import request_requeue
from tests.runtime.trainer.resume_parts import Model, Samples, differences, outcome


class Asks(runtime.TrainerCallback):
    """Asks for something at a hook's n-th call.

    Args:
        hook: Which hook.
        at: At which of its calls.
        make: Makes the request; None is a failure instead.
    """

    reads_checkpoint = False

    def __init__(self, hook, at, make):
        self._at, self._make, self.trainer = at, make, None
        self.calls = 0
        setattr(self, hook, self._called)

    def _called(self, *_, **__):
        self.calls += 1
        if self.calls == self._at:
            self.trainer.run.control.request(self._make())


def preempt(seconds=60.0):
    """A request with so many seconds to its deadline."""
    return lambda: Preempt(by="SIGTERM", signal="SIGTERM", deadline=time.time() + seconds)


def fail():
    """End training behind what was asked for before."""
    raise RuntimeError("killed")


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains in one folder, with or without somebody who asks; returns the trainer."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")

    def run(*asks, folder="out", eval_dataset=None, resume=False, **options):
        arguments = runtime.TrainingArguments(
            str(tmp_path / folder),
            **{
                "max_steps": 8,
                "per_device_train_batch_size": 2,
                "learning_rate": 0.05,
                "logging_steps": 3,
                "save_steps": 100,
                "use_cpu": True,
                "disable_tqdm": True,
                **options,
            },
        )
        trainer = runtime.Trainer(
            Model(), arguments, None, Samples(9), eval_dataset, callbacks=list(asks)
        )
        trainer.remove_callback(runtime.PrinterCallback)
        for each in asks:
            each.trainer = trainer
        with trainer:
            trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def steps_saved(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.glob("checkpoint-*"))


def told(folder: Path) -> tuple[RunEnded, list[str]]:
    """How the only run of a folder ended, and its alerts."""
    (run,) = [each.parent for each in (folder / "runs").glob("*/run.json")]
    events = [record.event for record in JournalReader(run).records(superseded=True)]
    return events[-1], [event.text for event in events if isinstance(event, AlertRaised)]


class TestLeaving:
    def test_saves_and_ends_the_process(self, train, tmp_path):
        """At the step it was at; the run is closed as preempted, the exit code is the signal's."""
        with pytest.raises(runtime.Preempted, match="preempted by SIGTERM") as leaving:
            train(Asks("on_step_end", 4, preempt()))
        assert leaving.value.code == 128 + signal.SIGTERM
        assert steps_saved(tmp_path / "out") == ["checkpoint-4"]
        ended, alerts = told(tmp_path / "out")
        assert (ended.outcome, ended.reason, ended.error) == ("preempted", "SIGTERM", None)
        assert alerts == []

    def test_the_next_attempt_ends_as_an_unbroken_one(self, train, tmp_path):
        """With the same bits, in the same run, though it left between two log entries."""
        whole = outcome(train(folder="whole"))
        for at in (2, 2):
            with pytest.raises(runtime.Preempted):
                train(Asks("on_step_end", at, preempt()), resume=any(tmp_path.glob("out/ch*")))
        assert differences(whole, outcome(train(resume=True))) == []
        (run,) = (tmp_path / "out" / "runs").iterdir()
        outcomes = [each.outcome for each in RunInfo.load(run).attempts]
        assert outcomes == ["preempted", "preempted", "finished"]

    @pytest.mark.parametrize("at", [1, 7, 16])
    def test_an_evaluation_is_given_up_and_done_again(self, train, tmp_path, at):
        """In its first set or its second one, and the save that was due after it too."""
        sets = {"one": Samples(5), "two": Samples(6)}
        options = {"eval_strategy": "steps", "eval_steps": 3, "save_steps": 3}
        options |= {"per_device_eval_batch_size": 1, "metric_for_best_model": "one_loss"}
        whole = train(folder="whole", eval_dataset=sets, **options)
        with pytest.raises(runtime.Preempted):
            train(Asks("on_prediction_step", at, preempt()), eval_dataset=sets, **options)
        last = train(eval_dataset=sets, resume=True, **options)
        assert differences(outcome(whole), outcome(last)) == []
        assert steps_saved(tmp_path / "out") == steps_saved(tmp_path / "whole")

    @pytest.mark.parametrize("then", ["preempted", "killed"])
    def test_what_is_owed_is_saved_in_its_place(self, train, then):
        """A checkpoint between a repeated evaluation and the next step knows where training is."""
        data = {"eval_dataset": Samples(9), "eval_strategy": "steps", "eval_steps": 3}
        data |= {"save_steps": 3, "max_steps": 16}
        whole = outcome(train(**data, folder="whole"))
        with pytest.raises(runtime.Preempted):  # inside the evaluation of step 12
            train(Asks("on_prediction_step", 7, preempt()), **data)
        ends = {
            "preempted": (runtime.Preempted, Asks("on_evaluate", 1, preempt())),
            "killed": (RuntimeError, Asks("on_save", 1, fail)),
        }
        error, asks = ends[then]
        with pytest.raises(error):
            train(asks, **data, resume=True)
        again = train(**data, resume=True)

        assert differences(whole, outcome(again)) == []

    def test_no_time_is_left(self, train, tmp_path):
        """It says why nothing is saved, in the log and in the journal."""
        with pytest.raises(runtime.Preempted):
            train(Asks("on_step_end", 4, preempt(seconds=-5.0)))
        assert steps_saved(tmp_path / "out") == []
        ended, (alert,) = told(tmp_path / "out")
        assert ended.outcome == "preempted"
        assert alert == (
            "no checkpoint is saved at step 4, on SIGTERM: 0.0 s are left, and nobody knows how "
            "long a save takes"
        )

    def test_nothing_is_saved_twice(self, train, tmp_path):
        """The state that is saved already needs no second checkpoint, nor does none at all."""
        with pytest.raises(runtime.Preempted):
            train(Asks("on_epoch_end", 1, preempt()), save_strategy="epoch", max_steps=20)
        assert steps_saved(tmp_path / "out") == ["checkpoint-5"]
        options = {"eval_on_start": True, "eval_strategy": "steps", "eval_dataset": Samples(3)}
        with pytest.raises(runtime.Preempted):
            train(Asks("on_prediction_step", 1, preempt()), folder="none", **options)
        assert steps_saved(tmp_path / "none") == []
        _, (alert,) = told(tmp_path / "none")
        assert alert.endswith("on SIGTERM: no step has been taken")

    def test_a_step_that_fails_meanwhile(self, train, tmp_path):
        """A signal to a whole job ends the workers that load data: that is no failed training."""

        class Fails(Asks):
            def _called(self, *given, **more):
                super()._called(*given, **more)
                if self.calls == self._at:
                    raise RuntimeError("a worker is gone")

        with pytest.raises(runtime.Preempted) as leaving:
            train(Fails("on_substep_end", 2, preempt()), gradient_accumulation_steps=2)
        assert isinstance(leaving.value.__cause__, RuntimeError)
        ended, (alert,) = told(tmp_path / "out")
        assert ended.outcome == "preempted"
        assert alert.endswith("had failed with RuntimeError: a worker is gone")

    def test_a_stop_is_no_preemption(self, train, tmp_path):
        """Who asked first decides: a training that is to end for good is not requeued."""
        train(Asks("on_step_end", 4, Stop), Asks("on_epoch_end", 1, preempt()))
        assert told(tmp_path / "out")[0].outcome == "stopped"


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
    def test_a_training_hears_of_them_and_nothing_else_does(self, train, number):
        """They are caught while `train` is under way, and as before when it has ended."""
        before = signal.getsignal(number)

        class Sends(runtime.TrainerCallback):
            def on_step_end(self, *_, **__):
                signal.raise_signal(number)

        with pytest.raises(runtime.Preempted) as leaving:
            train(Sends(), max_steps=10_000)
        assert leaving.value.code == 128 + number
        assert signal.getsignal(number) is before

    def test_ctrl_c(self, train, tmp_path):
        """It ends the training after the step, as a stop."""

        class Interrupts(runtime.TrainerCallback):
            def on_step_end(self, _args, state, _control, **_):
                if state.global_step == 2:
                    signal.raise_signal(signal.SIGINT)

        trainer = train(Interrupts(), max_steps=100_000)
        assert trainer.state.global_step < 100_000
        ended, _ = told(tmp_path / "out")
        assert (ended.outcome, ended.reason) == ("stopped", "SIGINT: Ctrl-C")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A job of SLURM's whose scontrol writes down what it is asked, and how often."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scontrol, asked = folder / "scontrol", tmp_path / "asked"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return scontrol, asked


class TestRequeue:
    def test_slurm_is_asked_once_all_is_written(self, train, slurm, tmp_path):
        """After the run is closed, since SLURM ends the job as soon as it agrees."""
        scontrol, asked = slurm
        run_json = tmp_path / "out" / "runs" / "out" / "run.json"
        scontrol.write_text(f'#!/bin/sh\necho "$@" > {asked}\ngrep outcome {run_json} >> {asked}\n')
        with pytest.raises(runtime.Preempted):
            train(Asks("on_step_end", 2, preempt()))
        assert asked.read_text().split() == [
            "requeue",
            "4711",
            '"outcome":',
            '"preempted",',
        ]

    def test_whoever_wants_none_gets_none(self, train, slurm):
        """With requeue=False, and for a training that was stopped or has ended."""
        with pytest.raises(runtime.Preempted):
            train(Asks("on_step_end", 2, preempt()), requeue=False)
        train(Asks("on_step_end", 2, Stop))
        train()
        assert not slurm[1].exists()

    def test_slurm_refuses(self, slurm, caplog):
        """Its words are in the log; so is that there is no scontrol, or that it hangs."""
        scontrol, _ = slurm
        scontrol.write_text("#!/bin/sh\necho 'Job may not be requeued' >&2\nexit 1\n")
        assert not request_requeue(30.0)
        assert "job 4711 is not requeued: scontrol says Job may not be requeued" in caplog.text
        scontrol.write_text("#!/bin/sh\nexec sleep 600\n")
        assert not request_requeue(0.1)
        assert "timed out after 0.1 seconds" in caplog.text

    def test_one_of_many_asks(self, slurm):
        """The first process, and none outside of SLURM."""
        environment = {"SLURM_JOB_ID": "7", "WORLD_SIZE": "2"}
        assert not request_requeue(30.0, {**environment, "RANK": "1"})
        assert not request_requeue(30.0, {})
        assert not slurm[1].exists()
        assert request_requeue(30.0, {**environment, "RANK": "0"})
        assert slurm[1].read_text() == "requeue 7\n"


@pytest.mark.parametrize(
    ("left", "longest", "saves"),
    [
        (None, None, True),
        (None, 100.0, True),
        (30.0, None, True),
        (1.9, None, False),
        (30.0, 25.0, True),
        (30.0, 29.5, False),
        (-3.0, 0.1, False),
    ],
)
def test_what_fits(left, longest, saves):
    """A save is begun if one like it fits; without one before, if more than a moment is left."""
    assert (why_not_save(left, longest) is None) == saves


@pytest.mark.parametrize(
    ("request_", "seconds", "budget"),
    [(None, 30.0, 30.0), (Preempt(), 30.0, 30.0), (Preempt(deadline=0.0), 30.0, 1.0)],
)
def test_closing_gets_what_is_left(request_, seconds, budget):
    """The whole budget without a deadline, and a second for the last words where it is over."""
    assert closing_budget(request_, seconds) == budget
