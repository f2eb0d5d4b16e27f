"""`run.console` where nothing can be drawn, and beside the callbacks that show the same."""

import re
from io import StringIO
from types import SimpleNamespace

import pytest
import torch

from bus import Evaluated
from runtime import Run, Trainer, TrainingArguments
from runtime._shown import TERMINAL, is_shown
from tests.waiting import eventually


@pytest.fixture
def run(tmp_path):
    """A run in a folder of the test's."""
    with Run("gpt", dir=tmp_path) as run:
        yield run


class Silent(torch.nn.Linear):
    """A model with a loss."""

    def forward(self, x):
        return {"loss": super().forward(x).square().mean()}


@pytest.fixture
def trainer(tmp_path):
    """Trains ten steps, evaluating twice."""
    args = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=10,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
    )
    data = list(torch.randn(80, 4))
    with Trainer(Silent(4, 1), args, train_dataset=data, eval_dataset=data) as trainer:
        yield trainer


class TestLines:
    def test_are_few(self, run):
        """However much is logged, a line an interval; what happens is told at once, once."""
        file = StringIO()
        console = run.console("lines", total=5000, interval=3600, file=file)
        for step in range(1, 491):
            run.log({"loss": 0.02, "lr": 1e-3}, step=step)
        eventually(lambda: "step" in file.getvalue())
        run.alert("spike", step=490)
        run.close()
        first, alert, last = file.getvalue().splitlines()
        assert console.looks == "lines"
        assert re.fullmatch(r"step \d+/5,000  loss 0\.02  lr 0\.001(  .* it/s  eta .*)?", first)
        assert alert == "step 490: warning: spike"
        assert re.match(r"gpt: finished after \d+:\d\d  step 490/5,000  loss 0.02", last)

    def test_stand_in_for_a_panel(self, run):
        """In a file there is no terminal to draw on, whoever asks for it."""
        assert run.console("panel", file=StringIO()).looks == "lines"
        assert run.console(file=StringIO()).looks == "lines"

    def test_end_with_the_run(self, run):
        """Nobody is left who shows, and what is logged afterwards is not waited for."""
        run.console(file=StringIO())
        assert is_shown()
        run.close()
        assert not is_shown()
        assert run.console(file=StringIO()).looks is None


class TestSeveral:
    def test_a_second_one_replaces_the_first(self, run):
        """The first says its last words, and hears nothing any more."""
        first, second = StringIO(), StringIO()
        run.console("lines", file=first)
        run.console("lines", file=second)
        run.publish(Evaluated(step=1, metrics={"eval_loss": 1.0}))
        run.close()
        assert first.getvalue() == "gpt: not shown any longer after 0:00  no step yet\n"
        assert "step 1: evaluated  eval_loss 1" in second.getvalue()

    def test_a_terminal_has_one(self, run, tmp_path):
        """Two runs at once: the second writes lines, until the first has ended."""
        assert run.console("tqdm", file=StringIO()).looks == "tqdm"
        with Run("other", dir=tmp_path) as other:
            assert other.console("tqdm", file=StringIO()).looks == "lines"
            run.close()
            assert other.console("tqdm", file=StringIO()).looks == "tqdm"
        assert not TERMINAL.locked()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"style": "fancy"}, "style='fancy' must be one of auto, panel"),
            ({"total": 0}, "total=0 must be steps"),
            ({"interval": 0}, "interval=0 must be seconds"),
        ],
    )
    def test_nonsense_is_refused(self, run, options, words):
        """With what to give instead."""
        with pytest.raises(ValueError, match=words):
            run.console(**options)


class TestFailures:
    def test_a_file_that_is_gone(self, run):
        """Nothing is shown any more; the run, and the next console, do not notice."""
        file = StringIO()
        run.console("tqdm", file=file)
        file.close()
        run.log({"loss": 1.0}, step=1)
        run.alert("spike")
        eventually(lambda: not is_shown())
        assert run.console("tqdm", file=StringIO()).looks == "tqdm"

    def test_a_stream_that_fails(self, run, caplog):
        """A bug in somebody's stream is logged once, and the run goes on."""

        def write(_words):
            raise RuntimeError("the stream's bug")

        run.console("lines", file=SimpleNamespace(isatty=lambda: False, write=write))
        run.alert("spike")
        eventually(lambda: not is_shown())
        run.log({"loss": 1.0}, step=1)
        assert run.flush()
        assert "the console failed" in caplog.text


class TestTqdm:
    def test_is_moved_by_events(self, run):
        """The bar has the steps, the metrics and what is wrong; lines stand above it."""
        file = StringIO()
        run.console("tqdm", total=10, file=file)
        run.log({"loss": 0.5}, step=9)
        eventually(lambda: "9/10" in file.getvalue())
        run.alert("spike", step=9)
        run.log({"loss": 0.25}, step=10)
        run.close()
        text = file.getvalue()
        assert "step 9: warning: spike\n" in text
        assert "10/10" in text.rsplit("\r", 1)[-1]
        assert "loss 0.25" in text.rsplit("\r", 1)[-1]
        assert "gpt: finished" in text.splitlines()[-1]


class TestWithATrainer:
    def test_nothing_is_shown_twice(self, trainer, capsys):
        """The steps come from the trainer; its own bars and printed entries give way."""
        file = StringIO()
        trainer.run.console("lines", interval=0.01, file=file)
        trainer.train()
        trainer.close()
        lines = file.getvalue().splitlines()
        assert sum(": evaluated  eval_" in line for line in lines) == 2
        assert "step 10/10  loss" in lines[-1]
        assert capsys.readouterr() == ("", "")

    def test_the_bars_are_back_without_it(self, trainer, capsys):
        """A console that was closed stands in nobody's way."""
        trainer.run.console("lines", file=StringIO()).close()
        trainer.train()
        assert "10/10" in capsys.readouterr().err
