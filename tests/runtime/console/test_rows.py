"""How progress looks, in rows and in words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from bus import SinkAccount, Statistics, SubscriberStatistics
from runtime._console_progress import Progress
from runtime._console_rows import PANEL_ROWS, line, panel
from runtime._console_words import duration, harmless, speed, troubles

FULL = Progress(
    name="gpt",
    attempt=2,
    step=490,
    total=5000,
    rate=3.1,
    metrics=(("loss", 0.02), ("lr", 1e-3)),
    curve=(3.0, 2.0, 1.0),
    evaluated=(400, (("eval_loss", 0.5),)),
    alert="warning: spike",
)


def texts(rows):
    return ["".join(text for text, _ in row).rstrip() for row in rows]


class TestPanel:
    def test_shows_all_there_is(self):
        """Name, attempt, bar, speed, time left, curve, metrics, evaluation, troubles, alert."""
        rows = texts(panel(FULL, ["wandb 0:12 behind"], 158, width=80))
        assert rows[0].startswith("── gpt, attempt 2 ───")
        assert rows[0].endswith("─ 2:38 ──")
        assert rows[1].startswith("━━━")
        assert rows[1].endswith("─ step 490/5,000  3.1 it/s  eta 24:15")
        assert rows[2] == "█▅▁  loss 0.02  lr 0.001"
        assert rows[3] == "evaluated at step 400  eval_loss 0.5"
        assert rows[4] == "wandb 0:12 behind"
        assert rows[5] == "warning: spike"

    def test_is_plain_where_nothing_else_can_be_shown(self):
        """On an ASCII terminal too."""
        rows = texts(panel(FULL, [], 1, width=80, ascii_only=True))
        assert all(row.isascii() for row in rows)
        assert rows[2] == "loss 0.02  lr 0.001"

    @settings(deadline=None, max_examples=50)
    @given(
        st.builds(
            Progress,
            name=st.text(max_size=60),
            step=st.none() | st.integers(0, 10**9),
            total=st.none() | st.integers(1, 10**9),
            rate=st.none() | st.floats(1e-6, 1e6),
            metrics=st.lists(st.tuples(st.text(max_size=30), st.floats()), max_size=5).map(tuple),
            curve=st.lists(st.floats(), max_size=64).map(tuple),
            batch=st.none() | st.integers(0, 10**6),
            evaluating=st.booleans(),
        ),
        st.integers(20, 200),
        st.booleans(),
    )
    def test_is_never_too_wide(self, progress, width, ascii_only):
        """Whatever was logged, each row is one row, and nothing in it moves the cursor."""
        rows = panel(progress, ["trouble " * 9], 1e5, width=width, ascii_only=ascii_only)
        assert len(rows) == PANEL_ROWS
        for row in rows:
            text = "".join(text for text, _ in row)
            assert cell_len(text) <= width
            assert text.isprintable()


def test_line():
    """The same in one line."""
    said = line(FULL, ["3 events lost"])
    assert said == "step 490/5,000  loss 0.02  lr 0.001  3.1 it/s  eta 24:15  3 events lost"


class TestTroubles:
    def test_none_if_all_is_well(self):
        """A sink that delivers, one behind as it collects, a subscriber that wanted the latest."""
        well = Statistics(
            sinks={"csv": SinkAccount("csv", status="delivering", waiting_since=99.0)},
            subscribers={"latest": subscriber({"superseded": 9})},
        )
        assert troubles(well, 100.0) == []

    def test_each_in_a_few_words(self):
        """Who is behind, waits, refused, missed; what was lost and why nothing is written."""
        ill = Statistics(
            dropped={"queue full": 1200},
            disk_error="[Errno 28] No space left on device",
            sinks={
                "mlflow": SinkAccount("mlflow", status="backing off", waiting_since=25.0, dead=2),
                "csv": SinkAccount("csv", status="delivering", missing=3),
            },
            subscribers={"slow": subscriber({"buffer full": 4, "superseded": 9})},
        )
        assert troubles(ill, 100.0) == [
            "mlflow backing off",
            "mlflow 1:15 behind",
            "mlflow refused 2",
            "csv missed 3",
            "slow missed 4",
            "1,200 events lost",
            "journal not written: [Errno 28] No space left on device",
        ]


def subscriber(dropped):
    return SubscriberStatistics(0, 0, 0, dropped, 0, 0, 0.0)


def test_terminals_are_not_told_what_to_do():
    """Escape sequences, line feeds and endless texts from outside become one short line."""
    assert harmless("\x1b[2Ja\nb\r\x9bc") == " [2Ja b  c"
    assert len(harmless("x" * 10_000)) < 600


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")]
)
def test_duration(seconds, text):
    """Minutes and seconds, hours where there are any."""
    assert duration(seconds) == text


def test_speed():
    """Steps a second, or seconds a step."""
    assert (speed(97.21), speed(0.25)) == ("97.2 it/s", "4.0 s/it")
