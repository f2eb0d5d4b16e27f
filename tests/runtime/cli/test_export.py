"""`hotloop export`."""

import csv
import io
import math

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus import CheckpointSaved, Evaluated, MessageLogged, MetricsLogged, Row, RunStarted
from runtime.cli._export import Columns, Selection, export


def metrics(step, **values):
    return MetricsLogged(time=100.5 + step, step=step, metrics=values)


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


class TestCsv:
    def test_is_a_wide_table_with_a_column_for_each_metric(self, folder, invoke):
        """A row for each event with metrics, in the order of the journal, gaps left empty."""
        folder.write(
            metrics(1, loss=2.5),
            MessageLogged(text="no row"),
            metrics(2, loss=0.1, lr=1e-4),
            Evaluated(time=200.0, step=2, metrics={"loss": 3.0}, dataset="valid"),
        )
        folder.write(metrics(1, loss=7.0), rank=1)
        result = invoke("export", "gpt", "--to", "csv")
        assert result.exit_code == 0
        assert result.stdout == (
            "attempt,rank,step,time,type,dataset,loss,lr\n"
            "1,0,1,101.5,metrics_logged,,2.5,\n"
            "1,0,2,102.5,metrics_logged,,0.1,0.0001\n"
            "1,0,2,200.0,evaluated,valid,3.0,\n"
            "1,1,1,101.5,metrics_logged,,7.0,\n"
        )

    def test_spells_out_what_is_not_finite(self, folder, invoke):
        """NaN that was logged is told apart from a metric that was not."""
        folder.write(metrics(1, a=math.nan, b=math.inf, c=-math.inf), metrics(2, a=1.0))
        rows = table(invoke("export", "gpt", "--to", "csv").stdout)
        assert [rows[0][name] for name in "abc"] == ["NaN", "Infinity", "-Infinity"]
        assert rows[1]["b"] == ""

    def test_keeps_metrics_named_like_our_columns_apart(self, folder, invoke):
        """No metric overwrites the step."""
        folder.write(MetricsLogged(step=1, metrics={"step": 7.0, "time": 8.0}))
        (row,) = table(invoke("export", "gpt", "--to", "csv").stdout)
        assert (row["step"], row["metric:step"], row["metric:time"]) == ("1", "7.0", "8.0")

    @pytest.mark.parametrize("flag", [[], ["--superseded"]])
    def test_leaves_out_or_marks_what_was_replaced(self, folder, invoke, flag):
        """By default the table has each step once."""
        folder.write(*(metrics(step, loss=1.0) for step in (1, 2)))
        started = RunStarted(name="gpt", run_id="1", attempt=2, resumed_from_step=1)
        folder.write(started, metrics(2, loss=0.5), attempt=2)
        rows = table(invoke("export", "gpt", "--to", "csv", *flag).stdout)
        if flag:
            marks = [row["superseded"] for row in rows]
            assert marks == ["false", "true", "false"]
        else:
            assert [(row["attempt"], row["step"]) for row in rows] == [("1", "1"), ("2", "2")]

    def test_selects_types(self, folder, invoke):
        """Columns that belong to other events only are not there."""
        folder.write(metrics(1, loss=1.0), CheckpointSaved(path="c", metrics={"best": 1.0}))
        text = invoke("export", "gpt", "--to", "csv", "--type", "CheckpointSaved").stdout
        assert text.splitlines()[0] == "attempt,rank,step,time,type,dataset,best"

    def test_leaves_what_is_written_meanwhile_for_the_next_export(self):
        """A row that arrives between the two readings might need a column that is not there."""
        columns = Columns()
        early, late = (Row(1, 0, seq, False, {}) for seq in (1, 2))
        columns.add(early, {"loss": 1.0})
        assert [columns.cover(row) for row in (early, late)] == [True, False]
        assert not columns.cover(Row(1, 7, 1, False, {}))

    def test_an_empty_run_is_a_heading(self, folder, invoke):
        """A script that reads the table need not treat a young run specially."""
        result = invoke("export", folder.path, "--to", "csv")
        assert (result.exit_code, result.stdout) == (0, "attempt,rank,step,time,type,dataset\n")

    @settings(
        deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        logged=st.lists(
            st.dictionaries(
                st.text(
                    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
                ),
                st.floats(),
                min_size=1,
                max_size=4,
            ),
            max_size=6,
        )
    )
    def test_every_number_comes_back_exactly(self, folder, logged):
        """Any name, any float: reading the table gives what was logged."""
        for segment in (folder.path / "journal").iterdir():
            segment.unlink()
        folder.write(*(MetricsLogged(time=1.0, step=1, metrics=each) for each in logged))
        out = folder.path / "out.csv"
        export(
            Selection(run_dir=folder.path, types=frozenset(), superseded=False), to="csv", out=out
        )
        with out.open(encoding="utf-8", newline="") as file:
            heading, *rows = csv.reader(file)
        names = [name.removeprefix("metric:") for name in heading[6:]]
        read = [
            {name: float(cell) for name, cell in zip(names, row[6:], strict=True) if cell}
            for row in rows
        ]
        assert [list(map(repr, each.values())) for each in read] == [
            [repr(each[name]) for name in names if name in each] for each in logged
        ]


class TestJsonl:
    def test_has_every_event_with_its_place(self, folder, invoke):
        """Strict JSON, one object a line, the event in a place of its own."""
        folder.write(metrics(1, loss=math.nan), MessageLogged(time=3.0, text="é\n"))
        lines = invoke("export", "gpt", "--to", "jsonl").stdout.splitlines()
        first, second = map(orjson.loads, lines)
        assert first["event"]["metrics"] == {"loss": "NaN"}
        assert second == {
            "attempt": 1,
            "rank": 0,
            "seq": 2,
            "event": {
                "type": "message_logged",
                "time": 3.0,
                "step": None,
                "text": "é\n",
                "level": "info",
            },
        }

    def test_marks_what_was_replaced_when_asked(self, folder, invoke):
        """With --superseded nothing of the journal is missing."""
        folder.write(*(metrics(step, loss=1.0) for step in (1, 2)))
        started = RunStarted(name="gpt", run_id="1", attempt=2, resumed_from_step=1)
        folder.write(started, attempt=2)
        lines = invoke("export", "gpt", "--to", "jsonl", "--superseded").stdout.splitlines()
        assert [orjson.loads(line)["superseded"] for line in lines] == [False, True, False]


class TestFile:
    def test_writes_the_file_and_nothing_else(self, folder, invoke, tmp_path):
        """The file is there under its name, without a partial one beside it."""
        folder.write(metrics(1, loss=1.0))
        result = invoke("export", "gpt", "--to", "csv", "--out", "gpt.csv")
        assert (result.exit_code, result.stdout) == (0, "")
        assert len(table((tmp_path / "gpt.csv").read_text())) == 1
        assert {path.name for path in tmp_path.iterdir()} == {"runs", "gpt.csv"}

    @pytest.mark.usefixtures("folder")
    def test_refuses_a_folder_that_does_not_exist(self, invoke):
        """The message names the file and the reason."""
        result = invoke("export", "gpt", "--to", "csv", "--out", "no/where.csv")
        assert result.exit_code == 2
        assert "cannot write no/where.csv: No such file or directory" in result.stderr

    @pytest.mark.usefixtures("folder")
    def test_refuses_an_unknown_format(self, invoke):
        """The message names the formats there are."""
        result = invoke("export", "gpt", "--to", "parquet")
        assert result.exit_code == 2
        assert "csv" in result.stderr
