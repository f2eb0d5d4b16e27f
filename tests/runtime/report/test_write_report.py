import math
import re

import pytest

from bus import (
    AlertRaised,
    AttemptInfo,
    CheckpointSaved,
    DecisionApplied,
    Evaluated,
    Gap,
    HistogramLogged,
    MessageLogged,
    MetricDefined,
    MetricsLogged,
    ParametersLogged,
    Predicted,
    RequestRefused,
    RunEnded,
    RunNotFoundError,
    RunStarted,
    SubscriberFailed,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
)
from runtime.report import write_report

START = 1_795_233_363.0
STATISTICS = {"publish_p50_us": 1.42, "publish_p99_us": 4.9, "journalled": 5123.0, "dropped": 0.0}


def attempt(number=1, **fields):
    """An attempt on a machine that is not this one."""
    return AttemptInfo(number=number, pid=1, host="elsewhere", started=START, **fields)


def started(number=1, resumed=None, time=START):
    return RunStarted(
        time=time,
        name="gpt",
        run_id="r1",
        attempt=number,
        resumed_from_step=resumed,
        config={"model": {"layers": 12}, "lr": 3e-4},
        facts={"host": "node-17", "command": ["train.py", "a b"], "git": {"commit": "9f31c2e8"}},
    )


def losses(first, last, time, offset=0.0):
    for step in range(first, last + 1):
        yield MetricsLogged(step=step, time=time + step, metrics={"train/loss": step + offset})


@pytest.fixture
def two_attempts(record_run):
    """A run that was killed after step 30, resumed from step 20, and stopped at step 40."""
    first = [
        started(),
        *losses(1, 30, START),
        DecisionApplied(
            step=10, time=START + 10, request={"type": "save"}, by="ada", reason="look"
        ),
        Gap(time=START + 15, reason="memory full", count=12),
    ]
    second = [
        started(2, 20, START + 100),
        *losses(21, 40, START + 100, offset=0.5),
        AlertRaised(step=40, time=START + 140, title="disk full", text="91 %"),
        DecisionApplied(step=40, time=START + 141, request={"type": "stop"}, by="EarlyStopping"),
        RunEnded(time=START + 142, outcome="stopped", reason="no progress", statistics=STATISTICS),
    ]
    attempts = [attempt(), attempt(2, outcome="stopped", resumed_from_step=20)]
    return record_run(attempts, first, second)


class TestTwoAttempts:
    def test_says_how_the_run_stands(self, two_attempts, document_of):
        """Name, state, who stopped it, how long it took, where it ran, what it was told."""
        page = document_of(write_report(two_attempts))

        assert (page["name"], page["project"], page["state"]) == ("gpt", "shakespeare", "stopped")
        assert page["story"] == "by EarlyStopping: no progress"
        assert page["duration"] == pytest.approx(142)
        assert page["facts"] == [["host", "node-17"], ["command", "train.py 'a b'"]]
        assert page["environment"] == [["git.commit", "9f31c2e8"]]
        assert page["config"] == [["model.layers", "12"], ["lr", "0.0003"]]
        assert [entry["outcome"] for entry in page["attempts"]] == ["crashed", "stopped"]

    def test_counts_what_recording_cost_and_lost(self, two_attempts, document_of):
        """The publish cost comes from the run itself; a gap counts even without statistics."""
        tiles = {tile["label"]: tile for tile in document_of(write_report(two_attempts))["tiles"]}

        assert tiles["publish cost"]["value"] == "1.42 µs"
        assert "4.9 µs" in tiles["publish cost"]["note"]
        assert tiles["events kept"]["value"] == "5,123"
        assert tiles["events dropped"]["value"] == "12"
        assert tiles["last step"]["value"] == "40"

    def test_draws_what_was_superseded_apart(self, two_attempts, document_of, unpack):
        """Three lines: what attempt 1 lost to attempt 2, what it kept, and attempt 2."""
        (metric,) = document_of(write_report(two_attempts))["metrics"]

        lines = [
            (line["attempt"], line["superseded"], *unpack(line["overview"])[::2])
            for line in metric["lines"]
        ]
        assert lines == [
            (1, True, [*range(21, 31)], [float(step) for step in range(21, 31)]),
            (1, False, [*range(1, 21)], [float(step) for step in range(1, 21)]),
            (2, False, [*range(21, 41)], [step + 0.5 for step in range(21, 41)]),
        ]
        assert (metric["last"], metric["lowest"], metric["highest"]) == (40.5, 1, 40.5)

    def test_marks_every_moment(self, two_attempts, document_of):
        """Starts, decisions, gaps and alerts; a moment without a step stands at the last one."""
        page = document_of(write_report(two_attempts))

        marks = [(mark["kind"], mark["step"], mark["label"], mark["by"]) for mark in page["marks"]]
        assert marks == [
            ("attempt", 0, "attempt 1", ""),
            ("decision", 10, "save", "ada"),
            ("gap", 15, "12 events lost", ""),
            ("attempt", 20, "attempt 2", ""),
            ("alert", 40, "disk full", ""),
            ("decision", 40, "stop", "EarlyStopping"),
        ]
        assert [mark["step"] for mark in page["marks"] if mark["estimated"]] == [15]


class TestMetrics:
    def test_groups_by_prefix_and_names_evaluations(self, record_run, document_of):
        """Evaluations, predictions and the machine get a heading unless their keys have one."""
        run_dir = record_run(
            [attempt()],
            [
                MetricsLogged(step=1, metrics={"train/loss": 2, "lr": 1}),
                Evaluated(step=1, metrics={"loss": 2, "eval_accuracy": 0.5, "eval/f1": 0.4}),
                Evaluated(step=1, metrics={"loss": 3}, dataset="wiki"),
                Predicted(step=1, metrics={"bleu": 3}),
                SystemMetricsLogged(metrics={"cpu": 3, "system/gpu": 4}),
            ],
        )

        page = document_of(write_report(run_dir))

        assert [(metric["group"], metric["name"]) for metric in page["metrics"]] == [
            ("", "lr"),
            ("eval", "eval/f1"),
            ("eval", "eval/loss"),
            ("eval", "eval/wiki/loss"),
            ("eval", "eval_accuracy"),
            ("predict", "predict/bleu"),
            ("system", "system/cpu"),
            ("system", "system/gpu"),
            ("train", "train/loss"),
        ]
        assert [metric["name"] for metric in page["metrics"] if not metric["by_step"]] == [
            "system/cpu",
            "system/gpu",
        ]

    def test_counts_missing_values_and_keeps_their_places(self, record_run, document_of, unpack):
        """NaN and infinities are gaps with a number beside the plot."""
        values = [1.0, math.nan, math.inf, -math.inf, 2.0]
        events = [MetricsLogged(step=i, metrics={"loss": value}) for i, value in enumerate(values)]

        (metric,) = document_of(write_report(record_run([attempt()], events)))["metrics"]

        (line,) = metric["lines"]
        assert line["missing"] == 3
        assert [math.isfinite(value) for value in unpack(line["overview"])[2]] == [
            math.isfinite(value) for value in values
        ]
        assert (metric["last"], metric["lowest"], metric["highest"]) == (2, 1, 2)

    def test_thins_long_lines_at_two_levels(self, record_run, document_of, unpack):
        """The overview holds the bound and the spike, the detail up to ten times as much."""
        events = [
            MetricsLogged(step=step, metrics={"loss": 100.0 if step == 2345 else step % 7})
            for step in range(1, 5001)
        ]

        page = document_of(write_report(record_run([attempt()], events), points=100))

        ((line,),) = (metric["lines"] for metric in page["metrics"])
        for level, bound in (("overview", 100), ("detail", 1000)):
            steps, _, values = unpack(line[level])
            assert bound / 2 < len(steps) <= bound
            assert (steps[0], steps[-1], steps[values.index(100.0)]) == (1, 5000, 2345)

    def test_sorts_values_logged_out_of_order(self, record_run, document_of, unpack):
        """A late value of an early step stands at its step."""
        steps = [1, 5, 3, 2]
        events = [MetricsLogged(step=step, metrics={"loss": step}) for step in steps]

        (metric,) = document_of(write_report(record_run([attempt()], events)))["metrics"]

        assert unpack(metric["lines"][0]["overview"])[::2] == ([1, 2, 3, 5], [1, 2, 3, 5])

    def test_a_definition_gives_unit_and_goal(self, record_run, document_of):
        """Also one for all metrics with a prefix."""
        events = [
            MetricDefined(name="train/*", unit="nats", goal="minimize"),
            MetricsLogged(step=1, metrics={"train/loss": 2, "lr": 1}),
        ]

        page = document_of(write_report(record_run([attempt()], events)))

        assert [(metric["unit"], metric["goal"]) for metric in page["metrics"]] == [
            ("", ""),
            ("nats", "minimize"),
        ]


class TestOtherEvents:
    def test_lists_notes_files_and_settings(self, record_run, document_of):
        """Messages, texts, checkpoints, parameters, the summary; the rest is at least counted."""
        run_dir = record_run(
            [attempt()],
            [
                MessageLogged(step=3, text="half way", level="warning"),
                TextLogged(key="sample", text="To be"),
                CheckpointSaved(step=4, path="/ckpt/step-4", metrics={"loss": 0.25}),
                ParametersLogged(parameters={"seed": 1}),
                SummaryLogged(values={"best": {"loss": 0.25}}),
                HistogramLogged(key="w", counts=[1], edges=[0, 1]),
                SubscriberFailed(subscriber="watcher", error="KeyError: 'x'", retired=True),
                RequestRefused(request={"type": "evaluate"}, by="web", why="the run ended"),
            ],
        )

        page = document_of(write_report(run_dir))

        assert [note["text"] for note in page["messages"]["items"]] == ["half way"]
        assert [note["title"] for note in page["texts"]["items"]] == ["sample"]
        assert [(file["name"], file["detail"]) for file in page["saved"]] == [
            ("step-4", "loss 0.25")
        ]
        assert (page["config"], page["summary"]) == ([["seed", "1"]], [["best.loss", "0.25"]])
        assert page["elsewhere"] == [["histograms", "1"]]
        assert [mark["label"] for mark in page["marks"][1:]] == [
            "subscriber watcher failed",
            "evaluate refused",
        ]

    def test_keeps_the_last_of_very_many_messages(self, record_run, document_of):
        """The page stays small and says how many there were."""
        events = [MessageLogged(text=f"message {index}") for index in range(1200)]

        messages = document_of(write_report(record_run([attempt()], events)))["messages"]

        assert messages["total"] == 1200
        assert [note["text"] for note in messages["items"][::499]] == [
            "message 700",
            "message 1199",
        ]


class TestUnfinishedRuns:
    def test_a_run_without_events(self, record_run, document_of):
        """There is an empty page, not an error."""
        page = document_of(write_report(record_run([], [])))

        assert (page["metrics"], page["attempts"], page["duration"]) == ([], [], None)

    def test_a_running_run(self, record_run, document_of):
        """Nothing has ended yet; costs are not known before the run says so."""
        page = document_of(write_report(record_run([attempt()], [started(), *losses(1, 5, START)])))

        assert page["state"] == "running"
        assert page["attempts"][0]["outcome"] == "running"
        assert [tile["value"] for tile in page["tiles"]][1:] == ["unknown", "unknown", "none known"]

    def test_a_failed_run_shows_its_error(self, record_run, document_of):
        """The error stands at the top."""
        end = RunEnded(outcome="failed", error="ValueError: bad batch")
        page = document_of(write_report(record_run([attempt(outcome="failed")], [started(), end])))

        assert (page["state"], page["story"]) == ("failed", "ValueError: bad batch")

    def test_damaged_lines_are_counted(self, two_attempts, document_of, unpack):
        """What can be read is drawn, what cannot is said."""
        (segment,) = two_attempts.glob("journal/rank0-a1-*")
        lines = segment.read_bytes().splitlines(keepends=True)
        lines[5] = lines[5].replace(b'"step"', b'"stop"')
        segment.write_bytes(b"".join(lines)[:-20])

        page = document_of(write_report(two_attempts))

        assert page["damaged"] == 2
        assert 5 not in unpack(page["metrics"][0]["lines"][1]["overview"])[0]

    def test_a_lost_run_file_is_made_up_from_the_journal(self, two_attempts, document_of):
        """The journal names the run and says how it ended."""
        (two_attempts / "run.json").unlink()

        page = document_of(write_report(two_attempts))

        assert (page["name"], page["id"], page["state"]) == ("gpt", "r1", "stopped")

    def test_a_lost_journal_leaves_the_identity(self, record_run, document_of):
        """run.json alone gives a page with its attempts."""
        page = document_of(write_report(record_run([attempt(outcome="failed", error="boom")])))

        assert (page["state"], page["story"], page["metrics"]) == ("failed", "boom", [])

    def test_ranks_have_lines_of_their_own(self, record_run, document_of):
        """Rank 3's loss does not join rank 0's."""
        record_run([attempt()], losses(1, 3, START))
        run_dir = record_run([attempt()], losses(1, 3, START), rank=3)

        (metric,) = document_of(write_report(run_dir))["metrics"]

        assert [line["rank"] for line in metric["lines"]] == [0, 3]


class TestFile:
    def test_default_and_given_target(self, two_attempts, tmp_path):
        """The report lies in the run's folder unless told otherwise, and replaces an older one."""
        assert write_report(two_attempts) == two_attempts / "report.html"
        target = tmp_path / "shared.html"
        target.write_text("old")
        assert write_report(two_attempts, target) == target
        assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
        assert not [*tmp_path.glob(".shared*")]

    def test_refuses_a_folder_without_a_run(self, tmp_path):
        """The error names the folder, and nothing is written."""
        with pytest.raises(RunNotFoundError, match=re.escape(str(tmp_path))):
            write_report(tmp_path)
        assert not [*tmp_path.iterdir()]

    def test_refuses_too_few_points(self, two_attempts):
        """Too few to draw with is an error, not an empty plot."""
        with pytest.raises(ValueError, match="3 points"):
            write_report(two_attempts, points=3)
