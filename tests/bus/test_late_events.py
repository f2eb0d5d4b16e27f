"""Events whose values a device delivers late, or never: what metrics may do, any event may."""

import pytest

from bus import Bus, Gap, HistogramLogged, JournalReader, MetricsLogged
from bus.testing import Recorder


class Late:
    """An event that a test lets through when it likes."""

    def __init__(self, event):
        self._event = event
        self.arrived = False
        self.torn = False

    def ready(self):
        """Whether the test has let it through."""
        return self.arrived

    def event(self):
        """The event; asking before it is ready would be a bug."""
        assert self.arrived
        if self.torn:
            raise RuntimeError("torn")
        return self._event


@pytest.fixture
def bus(tmp_path):
    """A bus with a journal."""
    bus = Bus(tmp_path / "journal")
    yield bus
    bus.close(2)


def histogram(step, key="weights"):
    return HistogramLogged(time=float(step), step=step, key=key, counts=[1, 2], edges=[0, 1, 2])


def journalled(bus, tmp_path, kind):
    assert bus.flush()
    return [record.event for record in JournalReader(tmp_path).records(types=(kind,))]


def test_it_is_overtaken_and_then_comes(bus, tmp_path):
    """Others are written meanwhile; it comes with the time at which it was made."""
    recorder = Recorder()
    bus.subscribe(HistogramLogged, MetricsLogged)(recorder)
    late = Late(histogram(3))
    bus.publish_late(3.0, "histogram", late)
    bus.publish_metrics((4.0, 4, {"loss": 1.0}))
    before = journalled(bus, tmp_path, HistogramLogged)
    late.arrived = True
    after = journalled(bus, tmp_path, HistogramLogged)
    bus.close(2)

    assert before == []
    assert after == [histogram(3)]
    assert [event.type for event in recorder.events] == ["metrics_logged", "histogram_logged"]


def test_a_series_keeps_its_order(bus, tmp_path):
    """Arriving first does not help: what is behind another one of its series waits."""
    first, second, other = Late(histogram(1)), Late(histogram(2)), Late(histogram(1, "bias"))
    for series, late in (("weights", first), ("weights", second), ("bias", other)):
        bus.publish_late(1.0, series, late)
    second.arrived = other.arrived = True
    before = journalled(bus, tmp_path, HistogramLogged)
    first.arrived = True
    after = journalled(bus, tmp_path, HistogramLogged)

    assert [event.key for event in before] == ["bias"]
    assert [(event.step, event.key) for event in after] == [
        (1, "bias"),
        (1, "weights"),
        (2, "weights"),
    ]


def test_the_account_adds_up(bus, tmp_path):
    """Each is one event: published, journalled, or one of a gap."""
    good, torn, never = (Late(histogram(step)) for step in range(3))
    for number, late in enumerate((good, torn, never)):
        bus.publish_late(float(number), f"series {number}", late)
    good.arrived = torn.arrived = torn.torn = True
    assert bus.flush()
    assert bus.statistics().device_pending == 1
    bus.close(1)
    statistics = bus.statistics()
    gaps = [record.event for record in JournalReader(tmp_path).records(types=(Gap,))]

    assert statistics.published == 3
    assert statistics.dropped == {"device did not answer": 2}
    assert sum(gap.count for gap in gaps) == 2
