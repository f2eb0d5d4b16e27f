"""Writes names, settings and pictures of numbers as ClearML's pages show them best."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from pydantic import JsonValue

from sinks._tracked import ranked
from sinks._values import flattened, shortened

Item = dict[str, JsonValue]

NO_ITERATION: Final = -(2**31)
"""The iteration under which ClearML keeps a value that stands for the whole run."""
SUMMARY: Final = "Summary"
"""The chart of such values."""

SINGLE: Final = frozenset(
    {
        *("train_runtime", "train_samples_per_second", "train_steps_per_second"),
        *("train_loss", "total_flos", "epoch"),
    }
)
"""Metrics that Transformers' callback shows as single values."""

_LONGEST: Final = 32_768
"""Characters of a parameter; a task with all of them is one document of at most 16 MB."""
_CONTROL: Final = dict.fromkeys((*range(32), 127, ord('"'), ord("\\")), "_")


def chart(key: str, rank: int = 0) -> tuple[str, str]:
    """The chart and the line in it that a metric is shown as.

    Transformers' prefixes `eval_` and `test_` name charts; a key without any goes into `train`.
    """
    title, _, line = key.rpartition("/")
    if not title or not line:
        title, line = "train", key
        for prefix in ("eval", "test"):
            if key.startswith(f"{prefix}_") and len(key) > len(prefix) + 1:
                title, line = prefix, key[len(prefix) + 1 :]
    return ranked(title, rank), line or "_"


def monitor(key: str, rank: int = 0) -> tuple[str, str]:
    """The chart for numbers about the machine, as ClearML's own monitor names them."""
    title = ":monitor:gpu" if key.startswith("gpu") else ":monitor:machine"
    return title, ranked(key, rank)


def parameters(values: Mapping[str, JsonValue], section: str) -> Iterator[Item]:
    """Nested settings as `outer/inner`, each with its type, as ClearML's client writes them."""
    for name, value in flattened(values, "/"):
        item: Item = {"section": section, "name": name or "_", "value": _text(value)}
        if value is not None:
            item["type"] = _kind(value)
        yield item


def histogram(title: str, line: str, counts: Sequence[float], edges: Sequence[float]) -> str:
    """A bar chart in Plotly's JSON (https://plotly.com/javascript/reference/bar/)."""
    pairs = list(pairwise(edges))
    bars = {
        "type": "bar",
        "name": line,
        "x": [(low + high) / 2 for low, high in pairs],
        "width": [high - low for low, high in pairs],
        "y": list(counts),
    }
    layout = {"title": {"text": f"{title} - {line}"}, "bargap": 0}
    return json.dumps({"data": [bars], "layout": layout})


def safe_path(*parts: str) -> str:
    """A path on the file server that stays where it belongs, from the root."""
    found: list[str] = []
    for part in "/".join(parts).replace("\\", "/").translate(_CONTROL).split("/"):
        if part.strip("."):
            found.append(part)
        elif part:
            found.append("_" * len(part))
    return "/" + "/".join(found)


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return shortened(json.dumps(value, ensure_ascii=False), _LONGEST)
    return shortened(str(value), _LONGEST)


def _kind(value: JsonValue) -> str:
    if isinstance(value, list):
        kinds = {_kind(each) for each in value}
        return f"list/{kinds.pop()}" if len(kinds) == 1 else "list"
    return type(value).__name__
