"""`hotloop tail` on journals that are complete; following is in test_processes.py."""

import math
import re
from typing import Literal

import orjson
import pytest

from bus import (
    AlertRaised,
    ConsoleLineLogged,
    DecisionApplied,
    Evaluated,
    Event,
    Gap,
    MessageLogged,
    MetricsLogged,
    RequestRefused,
    RunEnded,
    RunStarted,
    UnknownEvent,
)


class SparkSeen(Event):
    """An event of a user's own, whose fields are named like ours."""

    type: Literal["spark_seen"] = "spark_seen"
    rank: int
    attempt: str


def metrics(step, **values):
    return MetricsLogged(time=1_790_000_000.0 + step, step=step, metrics=values)


class TestLines:
    def test_says_when_which_attempt_which_step_what_and_the_values(self, folder, invoke):
        """One event is one line with everything in its place."""
        folder.write(metrics(3, loss=2.5, lr=0.0003))
        result = invoke("tail", "gpt")
        assert result.exit_code == 0
        assert re.fullmatch(
            r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.000  a1  step 3 +"
            r"metrics_logged +loss=2\.5 lr=0\.0003\n",
            result.stdout,
        )

    @pytest.mark.parametrize(
        ("event", "words"),
        [
            (RunEnded(outcome="failed", error="ValueError: no"), "failed: ValueError: no"),
            (RunEnded(outcome="finished"), "finished"),
            (Gap(reason="queue full", count=3), "3 events lost: queue full"),
            (Gap(reason="disk full", count=1), "1 event lost: disk full"),
            (MessageLogged(text="hello"), "  hello"),
            (MessageLogged(text="hm", level="error"), "[error] hm"),
            (AlertRaised(title="loss", text="is NaN"), "[warning] loss: is NaN"),
            (ConsoleLineLogged(text="oops\n", stream="stderr"), "! oops"),
            (
                DecisionApplied(
                    request={"type": "set_learning_rate", "value": 0.1}, by="me", reason="why not"
                ),
                "set_learning_rate value=0.1 by me: why not",
            ),
            (
                RequestRefused(request={"type": "stop"}, by="me", why="the run ended"),
                "stop by me; refused: the run ended",
            ),
            (
                RunStarted(
                    name="gpt",
                    run_id="1",
                    attempt=2,
                    resumed_from_step=100,
                    previous_outcome="preempted",
                    facts={"pid": 7, "host": "node1"},
                ),
                "gpt, attempt 2, resumed from step 100 (the one before: preempted), pid 7 on node1",
            ),
            (Evaluated(metrics={"loss": math.nan}, dataset="valid"), "loss=NaN dataset=valid"),
            (
                UnknownEvent(type="odd", fields={"deep": {"a": [1, None, True]}}),
                "deep={a: [1, null",
            ),
        ],
    )
    def test_puts_each_kind_of_event_into_words(self, folder, invoke, event, words):
        """What matters about an event stands in its line."""
        folder.write(event)
        assert words in invoke("tail", "gpt").stdout

    def test_shows_text_as_data(self, folder, invoke):
        """A run's text cannot move the cursor, clear the screen or forge a line."""
        folder.write(MessageLogged(text="a\x1b[2Jb\nc\r\x07é"))
        result = invoke("tail", "gpt")
        assert "a\\x1b[2Jb\\nc\\r\\x07é" in result.stdout
        assert result.stdout.count("\n") == 1

    def test_cuts_long_values(self, folder, invoke):
        """A config of a thousand lines does not fill the screen."""
        folder.write(UnknownEvent(type="odd", fields={"text": "x" * 5000}))
        assert len(invoke("tail", "gpt").stdout) < 300

    def test_survives_an_event_whose_fields_are_not_what_they_seem(self, folder, invoke):
        """A journal may be anybody's."""
        odd = {"metrics": 3, "level": [1], "count": "many", "request": None}
        for kind in ("gap", "alert_raised", "decision_applied", "run_started", "metrics_logged"):
            folder.write(UnknownEvent(type=kind, time=1e300, fields=odd))
        result = invoke("tail", "gpt")
        assert result.exit_code == 0
        assert result.stdout.count("\n") == 5


class TestChoice:
    def test_shows_the_last_lines(self, folder, invoke):
        """As `tail -n`, and 20 by default."""
        folder.write(*(metrics(step, loss=1.0) for step in range(30)))
        assert len(invoke("tail", "gpt").stdout.splitlines()) == 20
        last = invoke("tail", "gpt", "-n", "2").stdout.splitlines()
        assert ["step 28" in last[0], "step 29" in last[1]] == [True, True]
        assert invoke("tail", "gpt", "-n", "0").stdout == ""

    def test_interleaves_ranks_by_time(self, folder, invoke):
        """The last lines are the latest of all ranks, not those of the highest rank."""
        for rank in (0, 1):
            folder.write(*(metrics(2 * step + rank, loss=1.0) for step in range(9)), rank=rank)
        lines = invoke("tail", "gpt", "-n", "4").stdout.splitlines()
        assert [re.search(r"a1\S* +step \d+", line)[0].split() for line in lines] == [
            ["a1", "step", "14"],
            ["a1.r1", "step", "15"],
            ["a1", "step", "16"],
            ["a1.r1", "step", "17"],
        ]

    @pytest.mark.parametrize("name", ["evaluated", "Evaluated"])
    def test_selects_types_by_either_name(self, folder, invoke, name):
        """The journal's name and the class's name mean the same."""
        folder.write(metrics(1, loss=1.0), Evaluated(step=1, metrics={"loss": 2.0}))
        lines = invoke("tail", "gpt", "--type", name).stdout.splitlines()
        assert len(lines) == 1
        assert "evaluated" in lines[0]

    def test_says_which_types_there_are_when_none_matches(self, folder, invoke):
        """A mistyped type does not look like an empty run."""
        folder.write(metrics(1, loss=1.0))
        result = invoke("tail", "gpt", "--type", "metric_logged")
        assert result.exit_code == 0
        assert not result.stdout
        assert "this run holds: metrics_logged" in result.stderr

    def test_leaves_out_what_a_later_attempt_replaced(self, folder, invoke):
        """A resume at step 1 takes steps 2 and 3 back."""
        folder.write(*(metrics(step, loss=1.0) for step in (1, 2, 3)))
        started = RunStarted(name="gpt", run_id="1", attempt=2, resumed_from_step=1)
        folder.write(started, metrics(2, loss=0.5), attempt=2)
        steps = re.findall(r"(a\d) +step (\d)", invoke("tail", "gpt").stdout)
        assert steps == [("a1", "1"), ("a2", "2")]


class TestJson:
    def test_is_strict_and_keeps_users_fields_apart(self, folder, invoke):
        """A user's `rank` does not collide with the journal's; NaN is a string."""
        folder.write(
            metrics(1, loss=math.nan, up=math.inf), SparkSeen(time=1.0, rank=9, attempt="x")
        )
        first, second = map(orjson.loads, invoke("tail", "gpt", "--json").stdout.splitlines())
        both = {each["event"]["type"]: each for each in (first, second)}
        assert both["spark_seen"]["event"]["rank"] == 9
        assert both["metrics_logged"]["event"]["metrics"] == {"loss": "NaN", "up": "Infinity"}
