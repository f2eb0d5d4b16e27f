"""What a comparison of two trainers is made of.

A case is one training or several that continue in the same folder. Where ours differs on purpose
the case says which of upstream's quirks it mends (`MENDED`), and what is then not compared.
"""

from dataclasses import dataclass, field
from typing import Any

MENDED = {
    "Q1": "when resuming, the step intervals of the arguments given now hold, not the file's",
    "Q2": "callbacks' states are restored when resuming, into the user's own instances",
    "Q4": "without the filter, one loss that is not finite does not poison the later ones",
    "Q5": 'a callback\'s request to save is honoured next to save_strategy="best"',
    "Q6": "each callback has its own copy of `logs`; printing removes nothing from the result",
    "Q8": "what is left of an accumulation at an unsized loader's end is stepped, not leaked",
    "Q9": "max_steps=0 trains nothing",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        name: What is special in it.
        phases: Trainings one after another in one folder; see `trainer_script.Training`.
        mended: The quirk that ours mends, if the two are to differ.
        ignore: What is then not compared, as paths in the answer.
    """

    name: str
    phases: tuple[dict[str, Any], ...]
    mended: str | None = None
    ignore: tuple[str, ...] = field(default=())


def case(name: str, *, mended: str | None = None, ignore: str = "", **given: Any) -> Case:
    """A case of one training; what is no part of `Training` is an argument."""
    return Case(name=name, phases=(phase(**given),), mended=mended, ignore=tuple(ignore.split()))


def chain(
    name: str, *phases: dict[str, Any], mended: str | None = None, ignore: str = "", **given: Any
) -> Case:
    """A case of several trainings that share what is given."""
    made = tuple(phase(**{**given, **each}) for each in phases)
    return Case(name=name, phases=made, mended=mended, ignore=tuple(ignore.split()))


_PARTS = (
    *("model", "train", "eval", "metrics", "early_stopping", "wishes", "without", "resume"),
    *("before", "after", "plain_loader", "tokens"),
)


def phase(**given: Any) -> dict[str, Any]:
    """Sort what is given into parts of a training and arguments; evaluation has data by default."""
    parts = {key: given.pop(key) for key in _PARTS if key in given}
    evaluates = given.get("eval_strategy", "no") != "no" or given.get("eval_on_start")
    if evaluates or {"evaluate", "predict"} & {*parts.get("before", ()), *parts.get("after", ())}:
        parts.setdefault("eval", ["map", 20])
    defaults = {"num_train_epochs": 2, "logging_steps": 1, "save_strategy": "no"}
    return {**parts, "arguments": {**defaults, **given}}


def wish(hook: str, flag: str, **when: Any) -> list[dict[str, Any]]:
    """Set a flag in a hook."""
    return [{"hook": hook, "flag": flag, **when}]


EVERY_2: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
EPOCHS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
}
SAVE_2: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
BEST: dict[str, Any] = {**EVERY_2, **SAVE_2, "load_best_model_at_end": True, "metrics": True}
RESUME: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3, "model": "dropout"}
