"""What docs/sinks/ says of each destination, made from its class, and of faults, from the tests.

Run as `python tests/sink_tables.py` (or `make docs`), it writes them anew; a test compares.
"""

import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from bus import BatchLimits, Coalesces, Sink, SinkSettings
from sinks import HttpSettings

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "sinks"
BETWEEN = re.compile(r"(<!-- (\w+): made by `make docs` -->\n).*?(<!-- end -->\n)", re.DOTALL)


def entry_points() -> dict[str, str]:
    """Where each destination is, by name, as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points: dict[str, str] = project["entry-points"]["hotloop.sinks"]
    return points


def shipped() -> dict[str, type[Sink]]:
    """Every destination that the package offers, by name."""
    found: dict[str, type[Sink]] = {}
    for name, target in sorted(entry_points().items()):
        module, _, attribute = target.split(" ")[0].partition(":")
        found[name] = getattr(importlib.import_module(module), attribute)
    return found


def promises() -> str:
    """What each destination is and promises."""
    head = ("sink", "what it is", "delivers", "steps trained again", "under which condition")
    rows = (
        (
            f"[`{name}`]({name}.md)",
            first_line(kind),
            kind.promise.delivery,
            kind.promise.resumed,
            kind.promise.note.removesuffix("."),
        )
        for name, kind in shipped().items()
    )
    return table(head, rows)


def sink(name: str) -> str:
    """All that a destination's class says: what it does, what it promises, what can be set."""
    kind = shipped()[name]
    http = issubclass(kind.Settings, HttpSettings)
    more = " and [those of HTTP](index.md#settings)" if http else ""
    needs = extra_of(name)
    parts = [
        f'`sinks=["{name}"]`, or `{kind.__module__}.{kind.__qualname__}(...)`'
        + (f'; `pip install "hotloop[{needs}]"`' if needs else ""),
        inspect.cleandoc(kind.__doc__ or ""),
        table(("", ""), facts(kind)),
        f"Its settings{more}:",
        table(("setting", "variable", "default", "what it is"), rows_of(kind.Settings)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def facts(kind: type[Sink]) -> Iterator[tuple[str, str]]:
    """What it promises, as rows of a table."""
    note = kind.promise.note.removesuffix(".")
    yield "delivers", kind.promise.delivery + (f": {note}" if note else "")
    yield "steps trained again", kind.promise.resumed
    yield "sends", batches(kind.limits)
    if kind.coalesces:
        yield "leaves out", left_out(kind.coalesces)


def extra_of(name: str) -> str | None:
    """The extra of the package that a destination needs, if it needs one."""
    found = re.search(r"\[(\w+)\]", entry_points()[name])
    return found[1] if found else None


def http() -> str:
    """What can be set of every destination that speaks HTTP."""
    rows = (
        (f"`{field}`", f"`<PREFIX>{field.upper()}`", default(info), description(info))
        for field, info in HttpSettings.model_fields.items()
    )
    return table(("setting", "variable", "default", "what it is"), rows)


def immunity() -> str:
    """Each fault and moment of tests/sinks/test_loop_immunity.py, as its tests are declared."""
    module = importlib.import_module("tests.sinks.test_loop_immunity")
    moments: list[str] = module.MOMENTS
    rows: list[tuple[str, ...]] = []
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
        values: dict[str, list[object]] = {mark.args[0]: mark.args[1] for mark in marks}
        assert values.pop("moment") == moments, name
        promise = " ".join(str(test.__doc__).split())
        faults = next(iter(values.values()), [name.removeprefix("test_").replace("_", " ")])
        tested = ["tested"] * len(moments)
        rows += [(str(fault), *tested, promise.removesuffix(".")) for fault in faults]
    return table(("fault", *moments, "what holds"), rows)


def rows_of(kind: type[SinkSettings]) -> Iterator[tuple[str, ...]]:
    """The settings that a destination has for itself."""
    common = HttpSettings.model_fields if issubclass(kind, HttpSettings) else {}
    prefix = str(kind.model_config.get("env_prefix", ""))
    for field, info in kind.model_fields.items():
        if field not in common:
            alias = info.validation_alias
            variable = alias if isinstance(alias, str) else f"{prefix}{field}".upper()
            yield f"`{field}`", f"`{variable}`", default(info), description(info)


def default(info: FieldInfo) -> str:
    """How a default is written."""
    if info.is_required():
        return "**required**"
    value = cast("object", info.get_default(call_default_factory=True, validated_data={}))
    empty: tuple[object, ...] = (None, (), [], {}, "")
    return "" if value in empty or isinstance(value, SecretStr) else f"`{value}`"


def description(info: FieldInfo) -> str:
    """What a setting is, as its class says it."""
    return (info.description or "").rstrip(".")


def batches(limits: BatchLimits) -> str:
    """When a batch is sent, and how many of them."""
    words = f"up to {limits.events} events or {limits.bytes >> 10} KiB, after {limits.age:g} s"
    rates = [f"{count} in {seconds:g} s" for count, seconds in limits.rates]
    return f"{words}; at most {' and '.join(rates)}" if rates else words


def left_out(coalesces: Coalesces) -> str:
    """What is not sent because something later tells the same."""
    return "; ".join(
        f"all but the latest `{kind.__name__}` of one {' and '.join(fields)}, while they wait"
        for kind, fields in coalesces.items()
    )


def first_line(kind: type[Any]) -> str:
    """What a class is, without the promise that has a column of its own."""
    line = (kind.__doc__ or "").strip().splitlines()[0]
    return line.split(" Delivery:")[0].removesuffix(".")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(each.replace('|', '/') for each in line)} |\n" for line in lines)


def renewed(page: Path) -> str:
    """The page with everything in it as it should be."""
    made = {
        "promises": promises,
        "http": http,
        "immunity": immunity,
        "sink": lambda: sink(page.stem),
    }
    text = page.read_text(encoding="utf-8")
    return BETWEEN.sub(lambda found: f"{found[1]}\n{made[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for page in FOLDER.glob("*.md"):
        page.write_text(renewed(page), encoding="utf-8")
