"""Lines for people come in their order, together where they come faster than anybody reads."""

from runtime._log_lines import LogLines

FOREVER = 3600.0


def test_without_a_pause_each_entry_is_shown_at_once() -> None:
    shown: list[str] = []
    lines = LogLines(shown.append)

    lines.add({"loss": 1.0})
    lines.add({"loss": 0.5})

    assert shown == ["{'loss': '1'}", "{'loss': '0.5'}"]


def test_what_comes_within_the_pause_is_shown_together_and_in_order() -> None:
    shown: list[str] = []
    lines = LogLines(shown.append, pause=FOREVER)

    for step in range(4):
        lines.add({"step": step})
        lines.show_ready()
    assert shown == ["{'step': 0}"]
    lines.show_arrived()

    assert shown[1:] == ["{'step': 1}\n{'step': 2}\n{'step': 3}"]


def test_the_end_shows_what_a_pause_has_kept() -> None:
    for finish in (LogLines.show_all, LogLines.show_last):
        shown: list[str] = []
        lines = LogLines(shown.append, pause=FOREVER)
        lines.add({"step": 0})
        lines.add({"step": 1})

        finish(lines)
        finish(lines)

        assert shown == ["{'step': 0}", "{'step': 1}"]
