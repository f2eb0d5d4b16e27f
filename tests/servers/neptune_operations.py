"""The attributes of a run on the stand-in for Neptune: which operations fit, what they leave."""

import base64
import io
import math
import tarfile
from dataclasses import dataclass, field

STRING = 16_384
SERIES_STRING = 1_000
IMAGE = 32 << 20
SPECIAL = {"NaN": math.nan, "PosInf": math.inf, "NegInf": -math.inf, "NegZero": -0.0}

ASSIGNED = {
    "assignFloat": "float",
    "assignInt": "int",
    "assignBool": "bool",
    "assignString": "string",
    "assignDatetime": "datetime",
}
LOGGED = {
    "logFloats": "floatSeries",
    "logStrings": "stringSeries",
    "logImages": "imageSeries",
}
OTHERS = {
    "insertStrings": ("stringSet", {"values"}),
    "removeStrings": ("stringSet", {"values"}),
    "clearFloatSeries": ("floatSeries", set()),
    "clearStringSeries": ("stringSeries", set()),
    "configFloatSeries": ("floatSeries", {"min", "max", "unit"}),
    "deleteFiles": ("fileSet", {"filePaths"}),
    "deleteAttribute": (None, set()),
}


@dataclass
class Attributes:
    """What a run holds, by path.

    Attributes:
        types: The type of each attribute, as its first write made it.
        values: Values that are no series, and sets of strings.
        series: Points as step, value and time in milliseconds.
        files: Bytes, or for sets of files bytes by place.
    """

    types: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    series: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)

    def listed(self):
        """Names and types as the service lists them."""
        own = {"sys/id": "string", "sys/state": "experimentState", **self.types}
        return [{"name": name, "type": kind} for name, kind in sorted(own.items())]

    def malformed(self, operation, *, minfx):
        """Why the whole request is refused; "" if it is not."""
        keys = set(operation) - {"path"}
        if not isinstance(operation.get("path"), str) or not operation["path"] or len(keys) != 1:
            return f"an operation has a path and one action: {sorted(operation)}"
        (action,) = keys
        body = operation[action]
        if action in ASSIGNED:
            return _bad_value(action, body, minfx)
        if action in LOGGED:
            return _bad_entries(action, body, minfx)
        if action not in OTHERS or set(body) != OTHERS[action][1]:
            return f"{action} with {sorted(body)} is unknown"
        return ""

    def apply(self, operation, *, minfx):
        """Do what fits; what is wrong with the rest."""
        path = operation["path"]
        (action,) = set(operation) - {"path"}
        if path in ("sys/id", "sys/state") and not minfx:
            return [_error("metadata_inconsistency", f"{path} is read only")]
        kind = ASSIGNED.get(action) or LOGGED.get(action) or OTHERS[action][0]
        if action == "deleteAttribute":
            for each in (self.types, self.values, self.series, self.files):
                each.pop(path, None)
            return []
        known = self.types.setdefault(path, kind)
        if known != kind:
            words = f"Cannot perform {action} on attribute {path}: it is a {known}"
            return [_error("metadata_inconsistency", words)]
        if action in LOGGED:
            return self._log(path, operation[action]["entries"])
        self._change(path, action, operation[action])
        return []

    def store(self, attribute, place, content):
        """Keep a file, or one of a set of them."""
        if place is None:
            self.types[attribute] = "file"
            self.files[attribute] = content
        else:
            self.types[attribute] = "fileSet"
            self.files.setdefault(attribute, {})[place] = content

    def store_archive(self, attribute, content):
        """Keep the files of an archive; one that is none, as in a recording, is kept as it is."""
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                files = {
                    each.name: archive.extractfile(each).read()
                    for each in archive.getmembers()
                    if each.isfile()
                }
        except tarfile.TarError:
            files = {}
        for place, stored in (files or {"tar": content}).items():
            self.store(attribute, place, stored)

    def _change(self, path, action, body):
        if action in ASSIGNED:
            value = next(iter(body.values()))
            special = action == "assignFloat" and isinstance(value, str)
            self.values[path] = str(SPECIAL[value]) if special else value
        elif action == "insertStrings":
            self.values[path] = sorted({*self.values.get(path, []), *body["values"]})
        elif action == "removeStrings":
            self.values[path] = sorted(set(self.values.get(path, [])) - set(body["values"]))
        elif action.startswith("clear"):
            self.series[path] = []
        elif action == "deleteFiles":
            stored = self.files.get(path, {})
            for each in body["filePaths"]:
                for name in [name for name in stored if f"{name}/".startswith(f"{each}/")]:
                    del stored[name]

    def _log(self, path, entries):
        points = self.series.setdefault(path, [])
        errors = []
        for entry in entries:
            last, _, since = points[-1] if points else (-1.0, None, 0)
            step = float(math.floor(last) + 1 if entry["step"] is None else entry["step"])
            words = ""
            if points and step <= last:
                words = (
                    f"X-coordinates (step) must be strictly increasing for series attribute: {path}"
                )
                words += f". Invalid point: {step}"
            elif entry["timestampMilliseconds"] < since:
                words = f"Timestamp must be non-decreasing for series attribute: {path}"
                words += f". Invalid point: {entry['timestampMilliseconds']}"
            if words:
                errors.append(_error("logSeriesValueError", words))
                continue
            value = entry["value"]
            special = self._is_float(path) and isinstance(value, str)
            shown = str(SPECIAL[value]) if special else value
            points.append((step, shown, entry["timestampMilliseconds"]))
        return errors

    def _is_float(self, path):
        return self.types[path] == "floatSeries"


def _error(kind, words):
    return {"errorDescription": words, "errorType": kind}


def _is_number(value, minfx):
    if minfx and isinstance(value, str):
        return value in SPECIAL
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _bad_value(action, body, minfx):
    name = "valueMilliseconds" if action == "assignDatetime" else "value"
    if set(body) != {name}:
        return f"{action} has {name} and nothing else, not {sorted(body)}"
    value = body[name]
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "assignFloat": lambda: _is_number(value, minfx),
        "assignInt": lambda: whole and -(2**31) <= value < 2**31,
        "assignBool": lambda: isinstance(value, bool),
        "assignString": lambda: isinstance(value, str) and len(value) <= STRING,
        "assignDatetime": lambda: whole,
    }
    return "" if fits[action]() else f"{action} of {str(value)[:50]!r}"


def _bad_entries(action, body, minfx):
    if set(body) != {"entries"} or not body["entries"]:
        return f"{action} has entries"
    for entry in body["entries"]:
        if set(entry) != {"value", "step", "timestampMilliseconds"}:
            return f"an entry of {action} has {sorted(entry)}"
        value, step, time = entry["value"], entry["step"], entry["timestampMilliseconds"]
        if step is not None and not _is_number(step, minfx=False):
            return f"the step {step!r} is no number"
        if not isinstance(time, int) or isinstance(time, bool):
            return f"the time {time!r} is no whole number of milliseconds"
        fits = {
            "logFloats": lambda value: _is_number(value, minfx),
            "logStrings": lambda value: isinstance(value, str) and len(value) <= SERIES_STRING,
            "logImages": _is_image,
        }
        if not fits[action](value):
            return f"the value {str(value)[:50]!r} of {action}"
    return ""


def _is_image(value):
    if not isinstance(value, dict) or set(value) != {"data", "name", "description"}:
        return False
    try:
        content = base64.b64decode(value["data"], validate=True)
    except (TypeError, ValueError):
        return False
    return 0 < len(content) <= IMAGE
