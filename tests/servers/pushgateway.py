"""A stand-in for Prometheus' Pushgateway, as strict as version 1.5.1 was seen to be.

It takes `PUT` and `DELETE` of groups, reads the text format, and answers 400 to what the real one
refuses: timestamps, a last line without its end, samples or types that stand there twice, names
that cannot be, gauges whose lines stand apart.
"""

import base64
import re
from collections.abc import Mapping
from urllib.parse import unquote

from sinks.testing import Reply

TOKEN = "gateway-token-0123456789"  # noqa: S105 - of no server
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
ESCAPED = re.compile(r"\\.")
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Group = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Group], float]


class PushgatewayDouble:
    """The groups that were pushed.

    Attributes:
        groups: By their labels what they hold: name and labels of each sample, and its value.
        history: Each group as it was after each push.
    """

    def __init__(self, token: str | None = None) -> None:
        self.groups: dict[Group, Samples] = {}
        self.history: list[Samples] = []
        self._token = token

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """As the gateway answers."""
        if method == "HEAD":
            return Reply(200)
        if self._token is not None and headers.get("authorization") != f"Bearer {self._token}":
            return Reply(401, b"Unauthorized")
        group = group_of(target)
        if method == "DELETE":
            self.groups.pop(group, None)
            return Reply(202)
        if method != "PUT":
            return Reply(405)
        try:
            found = read(body.decode())
        except ValueError as error:
            return Reply(400, f"text format parsing error: {error}\n".encode())
        self.groups[group] = found
        self.history.append(found)
        return Reply(200)


def group_of(target: str) -> Group:
    """The labels that an address names."""
    parts = target.split("/")
    assert parts[:3] == ["", "metrics", "job"] or parts[2] == "job@base64", target
    assert len(parts) % 2 == 0, target
    labels: dict[str, str] = {}
    for name, value in zip(parts[2::2], parts[3::2], strict=True):
        label, coded, _ = name.partition("@base64")
        if coded:
            padded = value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)
            labels[label] = base64.urlsafe_b64decode(padded).decode()
        else:
            assert value, target
            labels[label] = unquote(value)
    return frozenset(labels.items())


def read(text: str) -> Samples:
    """What a body says.

    Raises:
        ValueError: The gateway would refuse it.
    """
    if text and not text.endswith("\n"):
        raise ValueError("unexpected end of input stream")
    found: Samples = {}
    order: list[str] = []
    typed: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in typed or name in order or kind != "gauge":
                raise ValueError(f"second TYPE line for {name}, or an unknown one")
            typed.add(name)
            continue
        match = SAMPLE.fullmatch(line)
        if match is None:
            raise ValueError(f"no sample, or one with a timestamp: {line!r}")
        name = match[1]
        if name not in typed or (name in order and order[-1] != name):
            raise ValueError(f"{name} stands apart from its type")
        order.append(name)
        key = (name, labels_of(match[2] or ""))
        if key in found:
            raise ValueError(f"{key} was collected before with the same name and label values")
        found[key] = float(match[3])
    return found


def labels_of(text: str) -> Group:
    """The labels of a sample."""
    pairs = LABEL.findall(text)
    if "".join(match[0] for match in LABEL.finditer(text)) != text:
        raise ValueError(f"no labels: {text!r}")
    return frozenset(
        (name, re.sub(r"\\.", lambda m: ESCAPES[m[0]], value)) for name, value in pairs
    )
