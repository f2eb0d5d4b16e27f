"""What Comet's endpoints take: the fields of each request, and which of them must be there.

Written from recordings of comet_ml 3.58.8; a field that its client always sends is required.
"""

import math
from dataclasses import dataclass

NAMED_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})


@dataclass(frozen=True)
class Fields:
    """The fields of an object: name and types, of those that must and those that may be there."""

    required: dict
    optional: dict


def _fields(required, **optional):
    return Fields(required, optional)


_TEXT = (str,)
_MAYBE_TEXT = (str, type(None))
_MAYBE_NUMBER = (int, float, type(None))
_KEYED = {"apiKey": _TEXT, "experimentKey": _TEXT}
_ANY = (str, int, float, bool, list, type(None))

BODIES = {
    "logger/add/run": _fields(
        _KEYED
        | {
            "local_timestamp": (int,),
            "offline": (bool,),
            "projectName": _MAYBE_TEXT,
            "teamName": _MAYBE_TEXT,
            "libVersion": _TEXT,
            "getOrCreateEnabled": (bool,),
        }
    ),
    "logger/get/run": _fields(
        {
            "apiKey": _TEXT,
            "local_timestamp": (int,),
            "previousExperiment": _TEXT,
            "libVersion": _TEXT,
        }
    ),
    "logger/copy-steps-from-experiment": _fields(
        {
            "apiKey": _TEXT,
            "copiedExperimentKey": _TEXT,
            "newExperimentKey": _TEXT,
            "stepToCopyTo": (int,),
            "localTimestamp": (int,),
            "libVersion": _TEXT,
        }
    ),
    "status-report/update": _fields(
        _KEYED
        | {
            "runId": _TEXT,
            "projectId": _TEXT,
            "is_alive": (bool,),
            "local_timestamp": (int,),
            "offline": (bool,),
        }
    ),
    "asset/3d-limits": _fields(_KEYED),
    "tags/add-tags-to-experiment": _fields(_KEYED | {"addedTags": (list,)}),
    "notification/experiment": _fields(
        {
            "api_key": _TEXT,
            "title": _TEXT,
            "status": _MAYBE_TEXT,
            "experiment_key": _TEXT,
            "experiment_name": _MAYBE_TEXT,
            "experiment_link": _TEXT,
            "additional_data": (dict, type(None)),
        }
    ),
    "batch/logger/experiment/parameter": _fields({"experimentKey": _TEXT, "values": (list,)}),
    "batch/logger/experiment/metric": _fields({"experimentKey": _TEXT, "values": (list,)}),
    "write/experiment/output": _fields(
        {"experimentKey": _TEXT, "outputLines": (list,), "runContext": _MAYBE_TEXT}
    ),
    "write/experiment/log-other": _fields(
        {"experimentKey": _TEXT, "key": _TEXT, "value": _ANY}, timestamp=(int,)
    ),
    "write/experiment/tags": _fields({"experimentKey": _TEXT, "addedTags": (list,)}),
    "write/experiment/graph": _fields({"experimentKey": _TEXT, "graph": _TEXT}),
    "write/experiment/create": _fields(
        {"workspaceName": _TEXT, "projectName": _TEXT}, experimentName=_TEXT
    ),
    "write/experiment/parameter": _fields(
        {"experimentKey": _TEXT, "parameterName": _TEXT, "parameterValue": _TEXT},
        timestamp=(int,),
        step=(int,),
    ),
    "write/experiment/metric": _fields(
        {"experimentKey": _TEXT, "metricName": _TEXT, "metricValue": _TEXT, "timestamp": (int,)},
        step=(int,),
        epoch=(int, float),
        context=_TEXT,
    ),
    "asset/upload-start": _fields(
        dict.fromkeys(
            ("experimentId", "projectId", "runId", "assetId", "fileName"),
            _TEXT,
        )
        | {"startUploadParams": (dict,), "overwrite": (bool,), "context": _MAYBE_TEXT},
        extension=_TEXT,
        type=_TEXT,
        groupingName=_TEXT,
        step=(int, type(None)),
        metadata=_MAYBE_TEXT,
    ),
    "asset/upload-complete": _fields(
        {"requestId": _TEXT, "succeed": (bool,), "fileSize": (int,), "uploadedFileParts": (list,)}
    ),
    "write/experiment/set-start-end-time": _fields(
        {
            "experimentKey": _TEXT,
            "startTimeMillis": (int, type(None)),
            "endTimeMillis": (int, type(None)),
        }
    ),
    "write/experiment/update-status": _fields(
        {
            "experimentKey": _TEXT,
            "isAlive": (bool,),
            "error": _MAYBE_TEXT,
            "hasCrashed": (bool,),
        }
    ),
}
"""By call: its path behind `/clientlib/` or behind `rest/v2/`."""

ITEMS = {
    "batch/logger/experiment/parameter": (
        "values",
        _fields(
            {
                "parameterName": _TEXT,
                "parameterValue": _ANY,
                "step": (int, type(None)),
                "source": _TEXT,
                "context": _MAYBE_TEXT,
                "timestamp": (int,),
            }
        ),
    ),
    "batch/logger/experiment/metric": (
        "values",
        _fields(
            {
                "metricName": _TEXT,
                "metricValue": (int, float, str),
                "step": (int, type(None)),
                "epoch": _MAYBE_NUMBER,
                "context": _MAYBE_TEXT,
                "timestamp": (int,),
            }
        ),
    ),
    "write/experiment/output": (
        "outputLines",
        _fields({"stderr": (bool,), "output": _TEXT, "localTimestamp": (int,), "offset": (int,)}),
    ),
}

PARTS = _fields({"cloudType": _TEXT, "preSignUrlTimeoutSec": (int,), "numOfFileParts": (int,)})
"""What is asked of an upload in parts."""

UPLOAD = _fields(
    dict.fromkeys(
        ("experimentId", "projectId", "runId", "assetId", "fileName", "overwrite"), _TEXT
    ),
    **dict.fromkeys(("extension", "type", "groupingName", "step", "epoch", "context"), _TEXT),
)
"""The query of an upload."""

PUBLIC_UPLOAD = _fields(
    dict.fromkeys(("experimentKey", "fileName", "type", "overwrite"), _TEXT),
    **dict.fromkeys(("extension", "groupingName", "step"), _TEXT),
)
"""The query of an upload by the REST interface."""

PICTURE = _fields(
    dict.fromkeys(
        ("experimentId", "projectId", "runId", "imageId", "figName", "figCounter", "overwrite"),
        _TEXT,
    ),
    **dict.fromkeys(("extension", "step", "epoch", "context"), _TEXT),
)
"""The query of a picture's upload."""


def complaint(fields, given):
    """What is wrong with an object; None if nothing is."""
    if not isinstance(given, dict):
        return f"{given!r} is no object"
    known = fields.required | fields.optional
    missing, unknown = fields.required.keys() - given.keys(), given.keys() - known.keys()
    if missing or unknown:
        return f"missing: {sorted(missing)}, unknown: {sorted(unknown)}"
    wrong = [
        f"{name} is {value!r}" for name, value in given.items() if not _fits(value, known[name])
    ]
    return wrong[0] if wrong else None


def _fits(value, types):
    if isinstance(value, bool):
        return bool in types
    finite = not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, types) and finite
