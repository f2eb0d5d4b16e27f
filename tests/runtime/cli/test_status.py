"""`hotloop status`."""

import orjson
import pytest

from bus import (
    DecisionApplied,
    Evaluated,
    Gap,
    MetricsLogged,
    RunEnded,
    RunStarted,
)
from runtime.cli._status_view import duration, size


def metrics(step, **values):
    return MetricsLogged(time=1_790_000_000.0 + step, step=step, metrics=values)


@pytest.fixture
def eventful(folder):
    """Two attempts: one stopped by a person, then resumed one step back and finished."""
    stop = {"type": "stop", "by": "ada", "reason": "lunch"}
    folder.attempt(1, outcome="stopped")
    folder.attempt(2, outcome="finished", resumed_from_step=1)
    folder.write(
        RunStarted(name="gpt", run_id="id-1", attempt=1),
        metrics(1, loss=3.0),
        metrics(2, loss=2.0, lr=0.1),
        DecisionApplied(step=2, request=stop, by="ada", reason="lunch"),
        RunEnded(outcome="stopped", reason="ada: lunch"),
    )
    folder.write(
        RunStarted(name="gpt", run_id="id-1", attempt=2, resumed_from_step=1),
        metrics(2, loss=1.5),
        Evaluated(step=2, metrics={"accuracy": float("nan")}),
        Gap(reason="queue full", count=5, first_time=1.0, last_time=4.0),
        Gap(reason="queue full", count=2, first_time=5.0, last_time=9.0),
        RunEnded(outcome="finished"),
        attempt=2,
    )
    return folder


class TestJson:
    def test_tells_the_whole_story(self, eventful, invoke):
        """State, attempts, who stopped it, steps, metrics, events, gaps, sizes."""
        result = invoke("status", "gpt", "--json")
        found = orjson.loads(result.stdout)
        assert (result.exit_code, found["state"], found["last_step"]) == (0, "finished", 2)
        first, second = found["attempts"]
        assert (first["outcome"], first["stopped_by"]) == ("stopped", "ada: lunch")
        assert (second["outcome"], second["resumed_from_step"]) == ("finished", 1)
        assert found["latest"]["loss"]["value"] == 1.5
        assert found["latest"]["accuracy"]["value"] == "NaN"
        assert "lr" not in found["latest"]
        assert found["events"]["metrics_logged"] == 2
        assert found["superseded"] == 2
        assert found["gaps"] == {"queue full": {"count": 7, "first_time": 1.0, "last_time": 9.0}}
        size = sum(file.stat().st_size for file in (eventful.path / "journal").iterdir())
        assert (found["journal_bytes"], found["damaged_lines"]) == (size, 0)
        assert found["seconds_since_last_write"] < 60

    def test_counts_damage(self, folder, invoke):
        """A line whose checksum is wrong is skipped and counted."""
        folder.write(metrics(1, loss=1.0))
        folder.write_raw(b'{"crc":"00000000","v":1,"seq":2,"type":"gap"}\n')
        folder.write(metrics(3, loss=1.0))
        found = orjson.loads(invoke("status", "gpt", "--json").stdout)
        assert (found["damaged_lines"], found["events"]) == (1, {"metrics_logged": 2})

    def test_takes_the_newest_value_over_all_ranks(self, folder, invoke):
        """The journal is read rank by rank; time decides."""
        folder.write(metrics(5, loss=5.0), rank=0)
        folder.write(metrics(4, loss=4.0), rank=1)
        found = orjson.loads(invoke("status", "gpt", "--json").stdout)
        assert (found["latest"]["loss"]["value"], found["ranks"]) == (5.0, [0, 1])


class TestState:
    def test_a_living_process_is_running(self, folder, invoke):
        """An attempt without an outcome whose process lives goes on."""
        folder.attempt(1)
        folder.write(metrics(1, loss=1.0))
        result = invoke("status", "gpt")
        assert result.exit_code == 0
        assert "running" in result.stdout
        assert "pid" in result.stdout

    @pytest.mark.parametrize(
        ("fields", "state"),
        [({"outcome": "failed", "error": "ValueError: no"}, "failed"), ({"boot": "x"}, "crashed")],
    )
    def test_a_failure_or_a_crash_is_1(self, folder, invoke, fields, state):
        """A script learns from the exit code that somebody should look."""
        folder.attempt(1, **fields)
        folder.write(metrics(1, loss=1.0))
        result = invoke("status", "gpt")
        assert result.exit_code == 1
        assert state in result.stdout
        assert fields.get("error", "") in result.stdout

    def test_an_attempt_that_was_killed_and_resumed_has_crashed(self, folder, invoke):
        """Only the last attempt can still be running."""
        folder.attempt(1)
        folder.attempt(2)
        folder.write(metrics(1, loss=1.0))
        folder.write(metrics(2, loss=1.0), attempt=2)
        attempts = orjson.loads(invoke("status", "gpt", "--json").stdout)["attempts"]
        assert [each["outcome"] for each in attempts] == ["crashed", None]

    def test_a_run_without_identity_is_judged_by_its_journal(self, folder, invoke):
        """run.json may be lost; the journal still says how the run ended."""
        (folder.path / "run.json").unlink()
        folder.write(metrics(1, loss=1.0))
        assert "unknown" in invoke("status", "gpt").stdout
        folder.write(RunEnded(outcome="finished"))
        result = invoke("status", "gpt")
        assert "finished" in result.stdout
        assert "run.json is missing" in result.stdout

    def test_a_run_that_has_written_nothing_yet(self, folder, invoke):
        """The first moment of a run is no error."""
        folder.attempt(1)
        result = invoke("status", "gpt")
        assert result.exit_code == 0
        assert "none yet" in result.stdout


class TestView:
    @pytest.mark.usefixtures("eventful")
    def test_shows_what_json_tells(self, invoke):
        """Everything important is in the tables too."""
        text = invoke("status", "gpt").stdout
        for word in ("finished", "ada: lunch", "queue full", "loss", "1.5", "NaN", "evaluated"):
            assert word in text

    def test_shows_text_as_data(self, folder, invoke):
        """Neither an error message nor a metric's name acts upon the terminal or on rich."""
        folder.attempt(1, outcome="failed", error="\x1b[2J[red]no[/red]")
        folder.write(metrics(1, **{"[bold]loss\x07": 1.0}))
        text = invoke("status", "gpt").stdout
        assert "\\x1b[2J[red]no[/red]" in text
        assert "[bold]loss\\x07" in text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.26, "0.3 s"),
            (59.4, "59 s"),
            (61, "1 min 1 s"),
            (7260, "2 h 1 min"),
            (90000, "1 d 1 h"),
        ],
    )
    def test_durations_in_two_units(self, seconds, text):
        """Enough to judge by, short enough for a table."""
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")]
    )
    def test_sizes_in_thousands(self, count, text):
        """As `ls --si` writes them."""
        assert size(int(count)) == text
