"""The trainings whose traces under Transformers are kept in `tests/runtime/trainer/golden`.

`python -m tests.vendors.trainer_traces`, with Transformers installed, makes the files anew.
"""

import gc
import importlib
import json
import os
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tests.vendors.trainer_cases import Case, case, chain, wish
from tests.vendors.trainer_recorder import FLAGS, HOOKS
from tests.vendors.trainer_script import answer

GOLDEN = Path(__file__).resolve().parents[1] / "runtime" / "trainer" / "golden"

_EPOCHS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
}
_BY_TWO: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2, "eval": ["map", 16]}
_SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5, "train": ["map", 64]}
_FULL: dict[str, Any] = {**_BY_TWO, "save_strategy": "steps", "save_steps": 2}

TRACES = (
    case(
        "A accumulation, everything on",
        train=["map", 64],
        num_train_epochs=1,
        gradient_accumulation_steps=3,
        **_FULL,
    ),
    case("B epoch strategies", train=["map", 16], eval=["map", 16], **_EPOCHS),
    case(
        "C an epoch and a half",
        train=["map", 32],
        eval=["map", 16],
        num_train_epochs=1.5,
        **_EPOCHS,
    ),
    case("D no epochs", num_train_epochs=0),
    case("E no steps", max_steps=0, mended="Q9"),
    case(
        "F starts and delays",
        eval_on_start=True,
        logging_first_step=True,
        logging_steps=3,
        eval_delay=3,
        max_steps=5,
        **_BY_TWO,
    ),
    chain("G resumed", {}, {"resume": "checkpoint-5"}, **_SAVED),
    chain(
        "H resumed without skipping",
        {},
        {"resume": "checkpoint-5"},
        ignore_data_skip=True,
        **_SAVED,
    ),
    chain("I resumed at the end", {}, {"resume": "checkpoint-16"}, **_SAVED),
    case("J a stream", train=["stream", 64], max_steps=12),
    case(
        "J a stream with a remainder",
        train=["stream", 64],
        max_steps=5,
        gradient_accumulation_steps=3,
        mended="Q8",
    ),
    case("K a stream that ends", train=["stream", 32, 0], max_steps=12, plain_loader=True),
    case(
        "L no default flow",
        num_train_epochs=1,
        train=["map", 64],
        max_steps=3,
        without=["DefaultFlowCallback"],
    ),
)

FACTS = (
    *(
        case(f"an error in {hook}", wishes=[{"hook": hook, "error": "told to"}], **_FULL)
        for hook in HOOKS
        if hook not in {"on_substep_end", "on_predict", "on_push_begin"}
    ),
    case("an error in the model", model="failing", **_FULL),
    case(
        "a batch that is too large",
        model="large",
        auto_find_batch_size=True,
        per_device_train_batch_size=16,
    ),
    case("trained twice", after=["train"], num_train_epochs=1),
    case("evaluated and predicted", before=["evaluate", "predict"], after=["evaluate", "predict"]),
    case(
        "trailing steps",
        logging_steps=4,
        eval_strategy="steps",
        save_strategy="steps",
        save_steps=4,
    ),
    case(
        "a stop saves nothing",
        wishes=wish("on_step_end", "should_training_stop", step=3),
        save_strategy="steps",
        save_steps=2,
    ),
    case("two sets", eval={"a": ["map", 16], "b": ["map", 9]}, eval_strategy="epoch"),
    case(
        "early stopping",
        early_stopping={"early_stopping_patience": 1},
        metric_for_best_model="peak",
        metrics=True,
        load_best_model_at_end=True,
        **_FULL,
    ),
)

KEPT = (
    *("error", "returned", "hooks", "logs", "learning_rates", "gradients", "checkpoints"),
    *("callbacks", "state", "samples", "losses"),
)
"""Parts of an answer that are kept; the others follow from them."""


def windows() -> Iterator[tuple[int, str, str, Case]]:
    """Each flag set once in each hook, without and with accumulation."""
    for accumulation, size in ((1, 12), (3, 24)):
        for hook in HOOKS:
            fires = hook != "on_push_begin" and (accumulation > 1 or hook != "on_substep_end")
            for flag in FLAGS if fires else ():
                yield accumulation, hook, flag, window(accumulation, size, wish(hook, flag))


def window(accumulation: int, size: int, wishes: list[dict[str, Any]]) -> Case:
    """Two epochs of three or two steps, with logging, evaluation and saving at every second."""
    return case(
        "window",
        train=["map", size],
        eval=["map", 4],
        per_device_train_batch_size=4,
        gradient_accumulation_steps=accumulation,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        after=["predict"],
        wishes=wishes,
    )


def origin() -> dict[str, str]:
    """What made the files."""
    packages = ("transformers", "accelerate", "torch")
    return {
        "made by": "python -m tests.vendors.trainer_traces",
        **{name: metadata.version(name) for name in packages},
    }


def record(library: Any, made: Case) -> list[dict[str, Any]]:
    """The answers to a case's phases."""
    with tempfile.TemporaryDirectory() as folder:
        return [answer(library, {"folder": folder, **each}) for each in made.phases]


def record_traces(library: Any, cases: tuple[Case, ...]) -> list[dict[str, Any]]:
    """Each case with what happened."""
    return [
        {
            "name": made.name,
            "mended": made.mended,
            "phases": made.phases,
            "answers": [shortened(each) for each in record(library, made)],
        }
        for made in cases
    ]


def shortened(answer: dict[str, Any]) -> dict[str, Any]:
    """The parts that are kept, of an answer that has them, with seven digits."""
    kept = {key: answer[key] for key in KEPT if key in answer}
    short: dict[str, Any] = json.loads(
        json.dumps(kept), parse_float=lambda text: float(f"{float(text):.7g}")
    )
    return short


def record_windows(library: Any) -> dict[str, Any]:
    """Hooks by accumulation, hook and flag; equal traces are written once."""
    traces: dict[str, int] = {}
    found: dict[str, dict[str, dict[str, int]]] = {}
    for accumulation, hook, flag, made in windows():
        (seen,) = record(library, made)
        number = traces.setdefault(" ".join(seen["hooks"]), len(traces))
        found.setdefault(str(accumulation), {}).setdefault(hook, {})[flag] = number
    return {"windows": found, "traces": list(traces)}


def lines(value: Any, depth: int) -> str:
    """JSON with a line for each part down to a depth, below which all is on one."""
    if depth == 0 or not isinstance(value, dict | list | tuple):
        return json.dumps(value)
    pad, brackets = "\n" + " " * (8 - depth), "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {lines(each, depth - 1)}" for key, each in value.items()]
    else:
        parts = [lines(each, depth - 1) for each in value]
    return brackets[0] + pad + ("," + pad).join(parts) + pad[:-1] + brackets[1]


def write(name: str, content: dict[str, Any]) -> None:
    """Write one file."""
    text = lines({"origin": origin(), **content}, 5)
    (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Make the files anew."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    library = importlib.import_module("transformers")
    assert library.Trainer  # is imported when it is asked for
    gc.collect()
    gc.freeze()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    write("traces", {"cases": record_traces(library, TRACES)})
    write("facts", {"cases": record_traces(library, FACTS)})
    write("windows", record_windows(library))


if __name__ == "__main__":
    main()
