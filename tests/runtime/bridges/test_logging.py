"""Records of Python's logging as events of a run."""

import logging

import pytest

import runtime
from bus import JournalReader, MessageLogged
from bus.testing import ended_runs
from runtime.bridges.logging import BusHandler

LOGGER = logging.getLogger("tests.bridges")


@pytest.fixture
def run(tmp_path):
    """A run, and a logger of ours that nobody else listens to."""
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False
    with runtime.Run(dir=tmp_path) as run:
        yield run
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)


def attach(run, **options):
    handler = BusHandler(run, **options)
    LOGGER.addHandler(handler)
    return handler


def messages(run):
    """Level and text of each message in the journal."""
    assert run.flush()
    records = JournalReader(run.dir).records(types=(MessageLogged,))
    return [(record.event.level, record.event.text) for record in records]


def test_levels_names_and_arguments(run):
    """A record keeps its level, its logger's name and its formatted text; lower ones are left."""
    attach(run)
    LOGGER.debug("hidden")
    LOGGER.info("%d of %s", 3, "four")
    LOGGER.warning("careful")
    LOGGER.error("bad")
    LOGGER.critical("worse")

    assert messages(run) == [
        ("info", "tests.bridges: 3 of four"),
        ("warning", "tests.bridges: careful"),
        ("error", "tests.bridges: bad"),
        ("error", "tests.bridges: worse"),
    ]


def test_a_traceback_is_part_of_the_line(run):
    """`log.exception` shows where it was raised."""
    attach(run)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        LOGGER.exception("failed")

    ((level, text),) = messages(run)
    assert level == "error"
    assert "Traceback" in text
    assert text.endswith("ZeroDivisionError: division by zero")


def test_our_own_lines_are_left_out(run):
    """What this library logs is not published: it could be about publishing."""
    handler = attach(run, level="DEBUG")
    for name in ("bus", "runtime", "sinks.mlflow"):
        handler.handle(logging.LogRecord(name, logging.ERROR, __file__, 1, "ours", None, None))
    LOGGER.debug("theirs")

    assert messages(run) == [("debug", "tests.bridges: theirs")]


def test_lines_of_deliveries_make_no_more_deliveries(run, eventually):
    """A sink's clients log what they send; a subscriber's own lines are published all the same."""
    attach(run)

    @run.on(MessageLogged, when=lambda event: event.text == "go")
    async def answer(event):
        LOGGER.info("a subscriber has heard %s", event.text)

    def deliver():
        LOGGER.info("POST http://tracker 200")

    import threading  # noqa: PLC0415 - as a sink's worker is made

    worker = threading.Thread(target=deliver, name="hotloop-sink-tracker")
    worker.start()
    worker.join()
    run.message("go")
    eventually(lambda: len(messages(run)) == 2)

    assert [text for _, text in messages(run)] == [
        "go",
        "tests.bridges: a subscriber has heard go",
    ]


def test_passwords_are_masked_and_lines_cut(run):
    """Neither a password in an address nor a line of any length gets into the journal."""
    attach(run, longest=80)
    LOGGER.info("at https://me:secret@example.org/x %s", "y" * 1000)

    ((_, text),) = messages(run)
    assert "secret" not in text
    assert text.endswith("characters)")
    assert len(text) < 120


def test_a_flood_is_counted(run):
    """Beyond what is allowed lines are left out, and their number is told."""
    handler = attach(run, per_second=0.001)
    for number in range(50):
        LOGGER.info("line %d", number)
    assert messages(run) == [("info", "tests.bridges: line 0")]
    assert handler.left_out == 49

    handler._left = 1.0  # as if much time had gone by
    LOGGER.info("at last")
    assert [text for _, text in messages(run)][1:] == [
        "49 lines of the log were left out",
        "tests.bridges: at last",
    ]


def test_a_run_that_has_ended_takes_nothing(tmp_path, caplog):
    """A handler that is still there after the run is silent."""
    with ended_runs(), runtime.Run(dir=tmp_path) as run:
        handler = BusHandler(run)
    handler.handle(logging.LogRecord("x", logging.ERROR, __file__, 1, "late", None, None))

    assert messages_of(run) == []
    assert not caplog.records


def messages_of(run):
    return list(JournalReader(run.dir).records(types=(MessageLogged,)))


def test_a_record_that_cannot_be_formatted_is_left_to_logging(run, capsys):
    """Python's logging says where it was; nothing is raised and nothing published."""
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%d", ("no number",), None)
    BusHandler(run).handle(record)

    assert "Logging error" in capsys.readouterr().err
    assert messages(run) == []


@pytest.mark.parametrize("nonsense", [{"longest": 0}, {"per_second": 0}, {"per_second": -1.0}])
def test_nonsense_is_refused(run, nonsense):
    """The message says what to do instead."""
    with pytest.raises(ValueError, match="raise the level"):
        BusHandler(run, **nonsense)
