"""What a sink measures itself becomes an event of the run's, for every other sink."""

from bus import BlockingSink, JournalReader, MetricsLogged, SystemMetricsLogged, sync_run
from runtime import Run
from tests.waiting import eventually


class Meter(BlockingSink):
    """Tells a number after each batch, where somebody trains."""

    name = "meter"
    wants = (MetricsLogged,)
    portable = False

    def write_blocking(self, batch, state):
        self.tell(SystemMetricsLogged(metrics={"measured": float(len(batch))}))
        return state


def measured(run_dir):
    """What the journal has of it."""
    return list(JournalReader(run_dir).records(types=(SystemMetricsLogged,)))


def test_beside_a_training(tmp_path):
    """It is journalled; where nothing is trained nobody hears it, and nothing breaks."""
    with Run(name="told", dir=tmp_path, sinks=[Meter()]) as run:
        run.log({"loss": 1.0}, step=1)
        eventually(lambda: measured(run.dir))
    (run.dir / "cursors" / "meter.json").unlink()
    (account,) = sync_run(run.dir, [Meter()])

    assert account.complete
    assert [record.event.metrics for record in measured(run.dir)] == [{"measured": 1.0}]
