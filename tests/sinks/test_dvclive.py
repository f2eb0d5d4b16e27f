"""How the DVCLive sink files metrics; tests/vendors has DVCLive itself."""

import pytest

from sinks._dvclive_files import drop_beyond, settle, sizes
from sinks._dvclive_state import logged_name


@pytest.mark.parametrize(
    ("key", "summary", "expected"),
    [
        ("train/loss", {}, "train/loss"),
        ("/etc/../loss", {}, "etc/loss"),
        ("..", {}, "metric"),
        ("a/b/c", {"a": {"b": 1.0}}, "a/b.c"),
        ("a/b", {"a": 1.0}, "a.b"),
        ("a", {"a": {"b": 1.0}}, "a.value"),
        ("a\nb", {}, "a_b"),
        ("x" * 300, {}, "x" * 60),
    ],
)
def test_names_of_dvclives_files(key, summary, expected):
    """None leads out of its folder, is too long, or makes a number of what is an object."""
    assert logged_name(key, summary) == expected


def test_tables_go_back(tmp_path):
    """To the sizes they had, and to a step; what has no rows left is gone."""
    folder = tmp_path / "plots" / "metrics"
    (folder / "eval").mkdir(parents=True)
    loss, late = folder / "loss.tsv", folder / "eval" / "late.tsv"
    loss.write_text("step\tloss\n1\t0.5\n2\t0.25\n")
    known = sizes(tmp_path)
    with loss.open("a") as file:
        file.write("3\tnan\n")
    late.write_text("step\tlate\n")
    settle(tmp_path, known)
    assert sizes(tmp_path) == known

    late.write_text("step\tlate\n2\t1.0\n")
    assert drop_beyond(tmp_path, 1) == {"loss": 0.5}
    assert loss.read_text() == "step\tloss\n1\t0.5\n"
    assert not late.exists()
