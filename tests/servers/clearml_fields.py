"""The fields of the calls that the stand-in for ClearML takes: required and other ones."""

_CHANGE = {"force": bool, "status_reason": str, "status_message": str}
_FIND = {"only_fields": list, "search_hidden": bool, "page": int, "page_size": int}
_TASK = {"tags": list, "system_tags": list, "comment": str, "hyperparams": dict}
_TASK |= {"configuration": dict, "script": dict, "execution": dict, "output_dest": str}
_MODEL = {"tags": list, "system_tags": list, "comment": str, "labels": dict, "framework": str}
_MODEL |= {"design": dict, "task": str, "ready": bool, "public": bool}
CALLS = {
    "projects.get_all": ({"name": str}, {**_FIND, "shallow_search": bool}),
    "projects.create": ({"name": str, "description": str}, {}),
    "projects.get_by_id": ({"project": str}, {}),
    "tasks.create": ({"name": str, "type": str}, {**_TASK, "project": str}),
    "tasks.get_all": ({}, {**_FIND, "id": list, "project": list, "_all_": dict}),
    "tasks.get_by_id": ({"task": str}, {}),
    "tasks.edit": ({"task": str}, {**_TASK, "force": bool, "runtime": dict}),
    "tasks.edit_hyper_params": ({"task": str, "hyperparams": list}, {"force": bool}),
    "tasks.edit_configuration": ({"task": str, "configuration": list}, {"force": bool}),
    "tasks.set_requirements": ({"task": str, "requirements": dict}, {}),
    "tasks.started": ({"task": str}, _CHANGE),
    "tasks.stopped": ({"task": str}, _CHANGE),
    "tasks.failed": ({"task": str}, _CHANGE),
    "tasks.completed": ({"task": str}, {**_CHANGE, "publish": bool}),
    "tasks.ping": ({"task": str}, {}),
    "tasks.add_or_update_model": (
        {"task": str, "name": str, "model": str, "type": str},
        {"iteration": int},
    ),
    "tasks.add_or_update_artifacts": ({"task": str, "artifacts": list}, {"force": bool}),
    "events.scalar_metrics_iter_histogram": (
        {"task": str},
        {"key": str, "model_events": bool, "samples": int},
    ),
    "events.get_task_single_value_metrics": ({"tasks": list}, {"model_events": bool}),
    "events.get_task_log": (
        {"task": str},
        {"order": str, "from": str, "batch_size": int, "navigate_earlier": bool},
    ),
    "models.create": ({"uri": str, "name": str}, {**_MODEL, "project": str}),
    "models.delete": ({"model": str}, {"force": bool}),
    "models.edit": (
        {"model": str},
        {**_MODEL, "uri": str, "name": str, "project": str, "iteration": int},
    ),
    "models.get_by_id": ({"model": str}, {}),
    "models.get_all": ({}, {**_FIND, "uri": list, "task": list, "order_by": list}),
}
_EVENT = {"timestamp": int, "iter": int, "metric": str, "variant": str}
STRAY = {"allow_locked": bool, "model_event": bool, "method": str}
EVENTS = {
    "training_stats_scalar": (
        {"task": str, "type": str, "iter": int, "metric": str, "variant": str, "value": float},
        {"timestamp": int},
    ),
    "log": (
        {"task": str, "type": str, "msg": str},
        {"timestamp": int, "level": str, "worker": str},
    ),
    "plot": ({"task": str, "type": str, "plot_str": str}, _EVENT),
    "training_debug_image": ({"task": str, "type": str, "url": str}, {**_EVENT, "key": str}),
}
LEVELS = frozenset({"notset", "debug", "verbose", "info", "warn", "warning", "error", "fatal"})
