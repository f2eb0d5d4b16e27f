"""The queue of late values against a model that looks at everything, every time."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bus._deferred import Arrival, DeferredMetrics, SideQueue

KEYS = st.frozensets(st.sampled_from("abcde"), min_size=1, max_size=3)


class Device:
    """Values that are ready when told."""

    def __init__(self, values):
        self.is_ready = False
        self.asked = 0
        self._values = values

    def ready(self):
        """Whether they are."""
        return self.is_ready

    def values(self):
        """Asked for once and only when ready."""
        assert self.is_ready
        self.asked += 1
        assert self.asked == 1
        return self._values


@dataclass
class NaiveQueue:
    """Says the same by looking at every entry and every entry before it."""

    limit: int
    waiting: list[DeferredMetrics] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)

    def add(self, entry):
        self.waiting.append(entry)
        if len(self.waiting) > self.limit:
            self.given_up.append(self.waiting.pop(0).step)

    def blocks(self, keys):
        return any(entry.keys & set(keys) for entry in self.waiting)

    def arrived(self):
        done = []
        while free := [e for e in self.waiting if self._is_free(e)]:
            self.waiting.remove(free[0])
            done.append(free[0].step)
        return done

    def give_up(self):
        self.given_up += [e.step for e in self.waiting if not _known(e)]
        self.waiting = [e for e in self.waiting if _known(e)]

    def _is_free(self, entry):
        before = self.waiting[: self.waiting.index(entry)]
        return _known(entry) and not any(entry.keys & other.keys for other in before)


def _known(entry):
    return entry.device is None or entry.device.is_ready


class AgainstTheModel(RuleBasedStateMachine):
    """Adds, answers, looks and gives up in any order."""

    def __init__(self):
        super().__init__()
        self.queue = SideQueue(limit=12)
        self.model = NaiveQueue(limit=12)
        self.step = 0
        self.last = dict.fromkeys("abcde", 0)

    def _new(self, keys, *, late):
        self.step += 1
        values = {key: float(self.step) for key in keys}
        device = Device(values) if late else None
        return DeferredMetrics(0.0, self.step, {} if late else values, keys, device)

    @rule(keys=KEYS, late=st.booleans())
    def add(self, keys, late):
        entry = self._new(keys, late=late)
        self.queue.add(entry)
        self.model.add(entry)

    @precondition(lambda self: any(not _known(e) for e in self.model.waiting))
    @rule(data=st.data())
    def answer(self, data):
        silent = [e for e in self.model.waiting if not _known(e)]
        data.draw(st.sampled_from(silent)).device.is_ready = True

    @rule()
    def look(self):
        found = self.queue.arrived()
        assert {arrival.step for arrival in found} == set(self.model.arrived())
        for arrival in found:
            self._check(arrival)

    @rule()
    def give_up(self):
        self.queue.give_up()
        self.model.give_up()

    @invariant()
    def the_same_is_left(self):
        assert len(self.queue) == len(self.model.waiting)
        assert [entry.step for entry in self.queue.given_up] == self.model.given_up
        for key in "abcde":
            assert self.queue.blocks({key: 0.0}) == self.model.blocks(key)

    def _check(self, arrival: Arrival):
        assert set(arrival.metrics.values()) == {float(arrival.step)}
        for key in arrival.metrics:
            assert self.last[key] < arrival.step, "a series is out of order"
            self.last[key] = arrival.step


TestAgainstTheModel = AgainstTheModel.TestCase


@given(st.lists(KEYS, max_size=40), st.randoms(use_true_random=False))
def test_every_entry_ends_once(sequence, random):
    """Whatever the keys and the order of answers, each entry arrives exactly once."""
    queue = SideQueue(limit=100)
    devices = []
    for step, keys in enumerate(sequence, start=1):
        devices.append(Device({key: float(step) for key in keys}))
        queue.add(DeferredMetrics(0.0, step, {}, keys, devices[-1]))
    random.shuffle(devices)
    found = []
    for device in devices:
        device.is_ready = True
        found += queue.arrived()

    assert sorted(arrival.step for arrival in found) == list(range(1, len(sequence) + 1))
    assert all(set(a.metrics) == set(sequence[a.step - 1]) for a in found)
    assert len(queue) == 0
    assert not queue.blocks(dict.fromkeys("abcde", 0.0))
    assert queue.given_up == []
