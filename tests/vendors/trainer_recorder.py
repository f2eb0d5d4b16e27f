"""Writes down what a trainer does: each hook with the flags it sees, logs, rates, files."""

import json
from pathlib import Path
from typing import Any

HOOKS = (
    "on_init_end",
    "on_train_begin",
    "on_epoch_begin",
    "on_step_begin",
    "on_substep_end",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_step_end",
    "on_log",
    "on_prediction_step",
    "on_evaluate",
    "on_predict",
    "on_save",
    "on_epoch_end",
    "on_train_end",
    "on_push_begin",
)

FLAGS = {
    "should_training_stop": "T",
    "should_epoch_stop": "E",
    "should_save": "S",
    "should_evaluate": "V",
    "should_log": "L",
}

STATE = (
    "epoch",
    "global_step",
    "max_steps",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "train_batch_size",
    "num_train_epochs",
    "num_input_tokens_seen",
    "best_metric",
    "best_global_step",
    "best_model_checkpoint",
    "is_local_process_zero",
    "is_world_process_zero",
)


class Notes:
    """What one training did.

    Args:
        wishes: What to do in a hook: `hook`, `flag`, and optionally `step` (only at this global
            step), `nth` (only at this call of the hook, 1 by default, 0 for every one) and
            `value`; `hook` and `error` raise instead.

    Attributes:
        hooks: `hook@global_step/epoch[flags]`, in order.
        logs: Step and content of each log entry.
        rates: The learning rate of each optimizer step.
        seen: For each hook which keywords it had, and which of them were None at first and last.
        gradients: For each optimizer step, whether gradients were there after it and at its end.
    """

    def __init__(self, wishes: list[dict[str, Any]]) -> None:
        self.wishes = wishes
        self.hooks: list[str] = []
        self.logs: list[list[Any]] = []
        self.metrics: list[list[Any]] = []
        self.rates: list[float] = []
        self.seen: dict[str, dict[str, list[str]]] = {}
        self.gradients: list[bool] = []
        self._calls: dict[str, int] = {}

    def see(self, hook: str, state: Any, control: Any, given: dict[str, Any]) -> None:
        """Note a call, then do what is wished there."""
        flags = "".join(letter for flag, letter in FLAGS.items() if getattr(control, flag))
        where = f"{hook.removeprefix('on_')}@{state.global_step}/{round(state.epoch or 0, 6):g}"
        self.hooks.append(f"{where}[{flags}]" if flags else where)
        self._note_keywords(hook, given)
        if hook == "on_log":
            self.logs.append([state.global_step, plain(dict(given["logs"]))])
        if "metrics" in given:
            self.metrics.append([hook, plain(dict(given["metrics"]))])
        if hook == "on_pre_optimizer_step":
            self.rates.append(float(given["optimizer"].param_groups[0]["lr"]))
        if hook in ("on_optimizer_step", "on_step_end"):
            self.gradients.append(
                any(each.grad is not None for each in given["model"].parameters())
            )
        self._fulfil(hook, state, control)

    def _fulfil(self, hook: str, state: Any, control: Any) -> None:
        self._calls[hook] = self._calls.get(hook, 0) + 1
        for wish in self.wishes:
            at_step = wish.get("step") in (None, state.global_step)
            nth = wish.get("nth", 1 if "step" not in wish else 0)
            if wish["hook"] == hook and at_step and nth in (0, self._calls[hook]):
                if "error" in wish:
                    raise ArithmeticError(wish["error"])
                setattr(control, wish["flag"], wish.get("value", True))

    def _note_keywords(self, hook: str, given: dict[str, Any]) -> None:
        none = sorted(key for key, value in given.items() if value is None)
        first = self.seen.setdefault(hook, {"keywords": sorted(given), "none_at_first": none})
        first["none_at_last"] = none


def make_recorder(library: Any, notes: Notes) -> Any:
    """A callback of this library that writes into the notes."""

    def hook_method(hook: str) -> Any:
        def called(_self: Any, _args: Any, state: Any, control: Any, **given: Any) -> None:
            notes.see(hook, state, control, given)

        return called

    methods = {hook: hook_method(hook) for hook in HOOKS}
    return type("Recorder", (library.TrainerCallback,), methods)()


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """A log entry as JSON knows it; durations and speeds, which differ every time, are None."""
    timed = ("_runtime", "_per_second", "_preparation_time")
    return {key: None if key.endswith(timed) else number(value) for key, value in values.items()}


def number(value: Any) -> Any:
    """A value as JSON knows it."""
    return value if value is None or isinstance(value, str | bool | int) else float(value)


def describe_state(state: Any) -> dict[str, Any]:
    """The trainer's state, without its history."""
    found = {name: getattr(state, name) for name in STATE}
    if found["best_model_checkpoint"] is not None:
        found["best_model_checkpoint"] = Path(found["best_model_checkpoint"]).name
    return found


def describe_checkpoints(folder: Path) -> dict[str, Any]:
    """Files and state of each checkpoint in a folder."""
    return {path.name: _describe_checkpoint(path) for path in sorted(folder.glob("checkpoint-*"))}


def _describe_checkpoint(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"files": sorted(each.name for each in path.iterdir())}
    state = path / "trainer_state.json"
    if state.exists():
        content = json.loads(state.read_text(encoding="utf-8"))
        history = content.pop("log_history")
        best = content.get("best_model_checkpoint")
        content["best_model_checkpoint"] = best and Path(best).name
        found["entries"] = len(history)
        found["state"] = {key: value for key, value in content.items() if key in STATE}
        found["stateful"] = sorted(content.get("stateful_callbacks", {}))
    return found


def describe_weights(model: Any) -> dict[str, list[float]]:
    """Two sums of each weight, by its name."""
    return {
        name: [float(weight.double().sum()), float(weight.double().abs().sum())]
        for name, weight in model.state_dict().items()
    }
