"""What subscribers do while a run closes belongs to the run."""

from bus import MetricsLogged, SummaryLogged
from bus.testing import JournalAsserter
from runtime import Run


def test_published_while_closing(tmp_path):
    """Events that subscribers publish over their backlog are kept, before the run's last event."""
    run = Run("closing", dir=tmp_path)

    @run.on(MetricsLogged)
    async def summarize(event: MetricsLogged) -> None:
        run.publish(SummaryLogged(step=event.step, values={"loss": event.metrics["loss"]}))

    for step in range(500):
        run.log({"loss": float(step)}, step=step)
    run.close()
    JournalAsserter(run.dir).complete().ends("finished").has(SummaryLogged, count=500)


def test_logged_after_the_end(tmp_path, caplog):
    """Logging on a closed run is warned of once, counted, and changes nothing in the journal."""
    run = Run("closed", dir=tmp_path)
    run.close()
    run.log({"loss": 1.0}, step=1)
    run.log({"loss": 2.0}, step=2)
    assert caplog.text.count("is closed; what is logged now is lost") == 1
    assert sum(run.statistics().dropped.values()) == 2
    JournalAsserter(run.dir).complete().ends("finished").has(MetricsLogged, count=0)
