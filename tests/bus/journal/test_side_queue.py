"""Metrics that wait for a device, overtaken by everything but their own series."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bus._deferred import DeferredMetrics, SideQueue


class Values:
    """What a device copies to the host; arrives when told to."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self.arrived = False
        self._numbers = numbers

    def ready(self) -> bool:
        return self.arrived

    def values(self) -> dict[str, float]:
        return self._numbers


class TestSideQueue:
    """Metrics that wait for a device."""

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.frozensets(st.sampled_from("abc"), min_size=1),
                st.sampled_from(["device", "host"]),
                st.integers(0, 40),
            ),
            max_size=30,
        ),
        st.integers(1, 12),
    )
    def test_order_within_a_series(self, entries, limit):
        """Each entry leaves once, complete or given up, and no metric's values change places."""
        queue = SideQueue(limit)
        devices: list[Values] = []
        left: list[tuple[float, frozenset[str]]] = []
        for index, (keys, kind, arrives) in enumerate(entries):
            numbers = dict.fromkeys(keys, float(index))
            device = Values(numbers) if kind == "device" else None
            host = {} if device else numbers
            queue.add(DeferredMetrics(float(index), index, host, keys, device))
            if device:
                devices.append(device)
            if arrives < len(devices):
                devices[arrives].arrived = True
            left += [(each.time, frozenset(each.metrics)) for each in queue.arrived()]
            assert len(queue) <= limit
        for device in devices[::2]:
            device.arrived = True
        left += [(each.time, frozenset(each.metrics)) for each in queue.arrived()]
        queue.give_up()
        left += [(each.time, frozenset(each.metrics)) for each in queue.arrived()]

        given_up = [each.time for each in queue.given_up]
        assert sorted([*given_up, *(made for made, _ in left)]) == [
            float(index) for index in range(len(entries))
        ]
        assert all(keys == entries[int(made)][0] for made, keys in left)
        for key in "abc":
            series = [made for made, keys in left if key in keys]
            assert series == sorted(series)
        assert len(queue) == 0
        assert not queue.blocks(dict.fromkeys("abc", 0.0))
