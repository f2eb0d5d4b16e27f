"""A dictionary of logged numbers of which some arrive late."""

import copy
import json
import pickle
import threading

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime._logs import Logs, SharedValues

PLAIN = {"loss": 2.5, "grad_norm": 0.5, "learning_rate": 1e-3, "epoch": 0.25}


class Device:
    """Numbers that are ready when told so, or after so many looks."""

    def __init__(self, found, *, looks=None):
        self.found = found
        self.arrived = False
        self.reads = 0
        self._looks = looks

    def ready(self):
        if self._looks is not None:
            self._looks -= 1
            self.arrived = self._looks <= 0
        return self.arrived

    def values(self):
        assert self.arrived, "read before it was ready"
        self.reads += 1
        return dict(self.found)


def make(*, looks=None):
    device = Device({"loss": 2.5, "grad_norm": 0.5}, looks=looks)
    logs = Logs({"learning_rate": 1e-3, "epoch": 0.25}, device=device, order=PLAIN)
    return logs, device


def kwargs_of(**kwargs):
    return kwargs


def updated(logs):
    target = {}
    target.update(logs)
    return target


def merged(logs):
    target = {"step": 1}
    target |= logs
    del target["step"]
    return target


def popped(logs):
    return {name: logs.pop(name) for name in list(logs)}


def popped_items(logs):
    found = [logs.popitem() for _ in range(len(logs))]
    return dict(reversed(found))


def matched(logs):
    match logs:
        case {"loss": loss, **rest}:
            return {"loss": loss, **rest}


LOOKS = {
    "pattern": matched,
    "indexing": lambda logs: {name: logs[name] for name in logs},
    "get": lambda logs: {name: logs.get(name) for name in logs},
    "items": lambda logs: dict(list(logs.items())),
    "values": lambda logs: dict(zip(logs, logs.values(), strict=True)),
    "dict()": dict,
    "dict() with more": lambda logs: dict(logs, epoch=0.25),
    "**": lambda logs: kwargs_of(**logs),
    "{**}": lambda logs: {**logs},
    "update": updated,
    "|": lambda logs: logs | {},
    "| from the right": lambda logs: {} | logs,
    "|=": merged,
    "copy": lambda logs: dict(logs.copy()),
    "copy.copy": lambda logs: dict(copy.copy(logs)),
    "deepcopy": lambda logs: dict(copy.deepcopy(logs)),
    "pickle": lambda logs: dict(pickle.loads(pickle.dumps(logs))),  # noqa: S301 - our own
    "json": lambda logs: json.loads(json.dumps(logs)),
    "json, indented": lambda logs: json.loads(json.dumps(logs, indent=2)),
    "repr": lambda logs: eval(repr(logs)),  # noqa: S307 - our own
    "str": lambda logs: eval(str(logs)),  # noqa: S307 - our own
    "format": lambda logs: eval(f"{logs}"),  # noqa: S307 - our own
    "pop": popped,
    "popitem": popped_items,
    "setdefault": lambda logs: {name: logs.setdefault(name, 0.0) for name in logs},
    "Logs": lambda logs: dict(Logs(logs)),
    "comprehension": lambda logs: {name: float(value) for name, value in logs.items()},
    "format_map": lambda logs: json.loads(
        '{{"loss": {loss}, "grad_norm": {grad_norm}, "learning_rate": {learning_rate}, '
        '"epoch": {epoch}}}'.format_map(logs)
    ),
}


class TestLooking:
    @pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
    def test_yields_plain_floats_in_their_order(self, look):
        """However it is looked at, the numbers are there, as floats, in the order given."""
        logs, _ = make(looks=3)
        found = look(logs)

        assert list(found.items()) == list(PLAIN.items())
        assert {type(value) for value in found.values()} == {float}

    @pytest.mark.parametrize("compare", ["late == plain", "plain == late", "late == late"])
    def test_compares_by_value(self, compare):
        """It equals a plain dictionary with the same numbers, from either side."""
        logs, _ = make(looks=2)
        other = make(looks=4)[0]
        if compare == "late == plain":
            assert logs == PLAIN
            assert logs != {**PLAIN, "loss": 0.0}
        elif compare == "plain == late":
            assert PLAIN == logs  # noqa: SIM300 - the order is the point
            assert {**PLAIN, "loss": 0.0} != logs  # noqa: SIM300 - the order is the point
        else:
            assert logs == other

    def test_reads_the_device_once_for_all_copies(self):
        """Ten copies and the bus share one reading."""
        logs, device = make()
        copies = [logs.copy() for _ in range(10)]
        device.arrived = True

        assert all(each == PLAIN for each in (*copies, logs))
        assert device.reads == 1

    def test_a_copy_survives_a_pickle_while_it_is_late(self):
        """What comes out of a pickle or a deep copy is of the same class, and complete."""
        logs, _ = make(looks=2)
        again = copy.deepcopy(logs)

        assert type(again) is Logs
        assert again.ready()
        assert again == PLAIN

    def test_readers_in_c_never_get_a_wrong_number(self):
        """A reader of the raw storage meets an error while numbers are late."""
        logs, _ = make(looks=2)
        with pytest.raises(TypeError):
            orjson.dumps(logs)

        assert orjson.loads(orjson.dumps(dict(logs))) == PLAIN
        assert orjson.loads(orjson.dumps(logs)) == PLAIN


class TestNotWaiting:
    def test_names_and_known_numbers_wait_for_nothing(self):
        """Names, length, what the host knows, writing and copying never ask the device."""
        logs, device = make()

        assert not logs.ready()
        assert list(logs) == list(logs.keys()) == list(PLAIN)
        assert list(reversed(logs)) == list(reversed(PLAIN))
        assert len(logs) == 4
        assert "loss" in logs
        assert logs["epoch"] == logs.get("epoch") == logs.setdefault("epoch", 1.0) == 0.25
        assert logs.get("absent", 7.0) == 7.0
        assert logs.pop("learning_rate") == 1e-3
        assert logs.pop("total_flos", None) is None
        logs["step"] = 3
        del logs["grad_norm"]
        assert not logs.copy().ready()
        device.arrived = True
        assert dict(logs) == {"loss": 2.5, "epoch": 0.25, "step": 3}

    def test_what_was_written_stays(self):
        """A number that was overwritten while it was late keeps what was written."""
        logs, device = make()
        logs["loss"] = 9.0
        logs.update(grad_norm=8.0)
        device.arrived = True

        assert list(logs.items()) == [*{**PLAIN, "loss": 9.0, "grad_norm": 8.0}.items()]

    def test_copies_are_independent(self):
        """What is written to or deleted from a copy is not seen elsewhere."""
        logs, device = make()
        twin = logs.copy()
        twin["own"] = 1.0
        del twin["loss"]
        device.arrived = True

        assert logs == PLAIN
        assert dict(twin) == {**{k: v for k, v in PLAIN.items() if k != "loss"}, "own": 1.0}

    def test_waits_only_as_long_as_the_device_takes(self):
        """A reader that came too early gets the number when another thread delivers it."""
        logs, device = make()
        seen = []
        reader = threading.Thread(target=lambda: seen.append(logs["loss"]))
        reader.start()
        assert seen == []
        device.arrived = True
        reader.join(5)

        assert seen == [2.5]


class TestPlain:
    def test_needs_no_device(self):
        """Without a device it is a dictionary like any other."""
        logs = Logs({"loss": 1.0}, order=())

        assert logs.ready()
        assert logs == {"loss": 1.0}
        assert not Logs()
        assert Logs([("a", 1.0)]) == {"a": 1.0}
        with pytest.raises(KeyError, match="absent"):
            _ = logs["absent"]
        with pytest.raises(KeyError, match="absent"):
            logs.pop("absent")
        with pytest.raises(TypeError, match="unhashable"):
            hash(logs)
        assert (logs == 3) is False
        assert (logs != 3) is True
        with pytest.raises(TypeError, match="unsupported operand"):
            logs | 3
        with pytest.raises(TypeError, match="unsupported operand"):
            3 | logs

    def test_a_device_that_fails_says_so_to_who_looks(self):
        """The device's own error reaches the reader, and a number it did not send is named."""

        class Broken(Device):
            def values(self):
                raise RuntimeError("the device failed")

        logs = Logs(device=Broken({}, looks=1), order=["loss"])
        with pytest.raises(RuntimeError, match="the device failed"):
            _ = logs["loss"]
        with pytest.raises(KeyError, match="loss"):
            dict(Logs(device=Device({}, looks=1), order=["loss"]))


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "pop", "setdefault", "copy", "get"]),
        st.sampled_from(["a", "b", "c", "d"]),
        st.floats(allow_nan=False),
    ),
    max_size=12,
)


@given(OPERATIONS, st.integers(0, 12))
def test_behaves_as_a_dictionary(operations, arrival):
    """Any sequence of changes, with the arrival anywhere in it, ends as in a plain dictionary."""
    device = Device({"a": 1.0, "b": 2.0})
    logs, plain = Logs({"c": 3.0}, device=device, order="abc"), {"a": 1.0, "b": 2.0, "c": 3.0}
    for index, (what, name, value) in enumerate(operations):
        if index >= arrival or what in {"pop", "setdefault", "get"}:
            device.arrived = True
        if what == "set":
            logs[name] = plain[name] = value
        elif what == "delete" and name in plain:
            del logs[name], plain[name]
        elif what == "pop":
            assert logs.pop(name, None) == plain.pop(name, None)
        elif what == "setdefault":
            assert logs.setdefault(name, value) == plain.setdefault(name, value)
        elif what == "get":
            assert logs.get(name) == plain.get(name)
        else:
            logs = logs.copy()
    device.arrived = True
    assert list(logs.items()) == list(plain.items())


def test_shared_values_are_read_once_by_many_threads():
    """Threads that ask at the same moment cause one reading."""
    device = Device({"loss": 1.0}, looks=1)
    shared = SharedValues(device)
    together = threading.Barrier(8)
    found = []

    def ask():
        together.wait(5)
        found.append(shared.wait())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert found == [{"loss": 1.0}] * 8
    assert device.reads == 1
