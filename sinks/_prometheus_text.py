"""Writes numbers in the text format that Prometheus and its Pushgateway read.

The format is described at prometheus.io/docs/instrumenting/exposition_formats.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

_NAMELESS: Final = re.compile(r"[^a-zA-Z0-9_]")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def metric_name(key: str) -> str:
    """What Prometheus lets a key be called: `train/loss` becomes `train_loss`."""
    return _NAMELESS.sub("_", key)


def is_label(name: str) -> bool:
    """Whether a label may have this name; those with two underscores are Prometheus' own."""
    return _LABEL.fullmatch(name) is not None and not name.startswith("__")


def number_text(value: float) -> str:
    """A number as Prometheus reads it."""
    if value - value == 0:
        return repr(float(value))
    return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"  # noqa: PLR0124 - NaN


def gauges(values: Mapping[str, Iterable[tuple[Mapping[str, str], str]]]) -> str:
    """Gauges by their names, each with its samples: labels and a number's text."""
    lines: list[str] = []
    for name, samples in sorted(values.items()):
        lines.append(f"# TYPE {name} gauge\n")
        lines += [f"{name}{_labels(labels)} {value}\n" for labels, value in samples]
    return "".join(lines)


def group_path(labels: Mapping[str, str]) -> str:
    """The part of a Pushgateway's address that names a group: `/job/gpt/run/gpt-2`.

    A value with a slash, and an empty one, goes as base64, as the Pushgateway wants it.
    """
    return "".join(_segment(name, value) for name, value in labels.items())


def _segment(name: str, value: str) -> str:
    if value and "/" not in value:
        return f"/{name}/{quote(value, safe='')}"
    coded = base64.urlsafe_b64encode(value.encode()).decode()
    return f"/{name}@base64/{coded or '='}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
