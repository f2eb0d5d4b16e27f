"""What the stand-in for Comet answers to who reads an experiment, such as `comet_ml.APIExperiment`.

The shapes are those that comet_ml 3.58.8 reads and shows in its own documentation: numbers come
back as text.
"""

PROJECT = "355fedc7629d5b94ba8b66aa14cee7c1"
"""The id of every project."""


def _metadata(experiment):
    return {
        "experimentKey": experiment.key,
        "experimentName": experiment.others.get("Name", experiment.key[:8]),
        "projectId": PROJECT,
        "projectName": experiment.project,
        "workspaceName": experiment.workspace,
        "throttle": experiment.throttled,
        "running": experiment.alive,
        "error": experiment.error,
        "hasCrashed": experiment.crashed,
        "archived": False,
    }


def read(experiment, call, query):
    """The answer to a call; None if it reads nothing."""
    answer = _READS.get(call.removeprefix("experiment/"))
    return None if answer is None else answer(experiment, query)


def _values(values):
    return {
        "values": [{"name": key, "valueCurrent": _text(value)} for key, value in values.items()]
    }


def _points(experiment, query):
    name = query.get("metricName")
    return {"metrics": [_point(each) for each in experiment.points if name in (None, each[0])]}


def _models(experiment):
    names = {
        query["groupingName"]
        for query, _, _ in experiment.assets.values()
        if "groupingName" in query
    }
    return {"models": [{"modelName": name} for name in sorted(names)]}


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else "null" if value is None else repr(value)


def _point(point):
    name, step, epoch, value, context, timestamp = point
    return {
        "metricName": name,
        "metricValue": _text(value),
        "timestamp": timestamp,
        "step": step,
        "epoch": epoch,
        "runContext": context,
    }


def _asset(number, asset):
    query, content, more = asset
    return {
        "assetId": number,
        "fileName": query.get("fileName") or query["figName"],
        "fileSize": len(content),
        "step": int(query["step"]) if "step" in query else None,
        "type": query.get("type", "asset"),
        "metadata": more,
    }


_READS = {
    "metadata": lambda experiment, _: _metadata(experiment),
    "tags": lambda experiment, _: {"tags": experiment.tags},
    "parameters": lambda experiment, _: _values(experiment.params),
    "log-other": lambda experiment, _: _values(experiment.others),
    "metrics/get-all": _points,
    "metrics/get-metric": _points,
    "asset/list": lambda experiment, _: {
        "assets": [_asset(*each) for each in experiment.assets.items()]
    },
    "asset/get-asset": lambda experiment, query: experiment.assets[query["assetId"]][1],
    "output": lambda experiment, _: {
        "output": "".join(text for _, (text, _) in sorted(experiment.lines.items()))
    },
    "model": lambda experiment, _: _models(experiment),
    "graph": lambda experiment, _: {"graph": experiment.graph},
}
