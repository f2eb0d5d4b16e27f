"""The calls of the stand-in for ClearML with which its client reads a task back.

The shapes are those that `clearml` 2.1.12 takes apart.
"""

SUMMARY = -(2**31)
"""The iteration of a value that belongs to none."""


def scalars(task):
    """Every series but the single values."""
    found = {}
    for (metric, variant), points in task.scalars.items():
        if SUMMARY not in points:
            lines = found.setdefault(metric, {})
            xs, ys = list(points), list(points.values())
            lines[variant] = {"name": variant, "x": xs, "y": ys}
    return found


def single_values(task_id, task):
    """The values that stand for the whole run."""
    values = [
        {"metric": metric, "variant": variant, "value": points[SUMMARY]}
        for (metric, variant), points in task.scalars.items()
        if SUMMARY in points
    ]
    return {"tasks": [{"task": task_id, "values": values}]}


def log(task):
    """Lines of the log, oldest first."""
    events = [{"type": "log", "level": level, "msg": message} for level, message in task.logs]
    return {"events": events, "returned": len(events), "total": len(events)}


def document(task_id, task):
    """All there is of a task but its events."""
    output = [{"name": name, "model": each["model"]} for name, each in task.models.items()]
    artifacts = list(task.artifacts.values())
    return {
        "script": {},
        "runtime": {},
        **task.fields,
        "id": task_id,
        "hyperparams": task.hyperparams,
        "configuration": task.configuration,
        "execution": {**task.fields.get("execution", {}), "artifacts": artifacts},
        "models": {"input": [], "output": output},
        "output": {"destination": task.fields.get("output_dest", "")},
    }
