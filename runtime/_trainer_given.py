"""What people pass to a trainer, refused if it is of a kind that cannot be used."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from runtime._arguments import TrainingArguments
from runtime._run import Run
from runtime._signatures import cannot_bind

if TYPE_CHECKING:
    from bus import Sink
    from runtime._callbacks import TrainerCallback


def checked_arguments(args: object) -> TrainingArguments:
    """The arguments, looked at again because people change them after making them.

    Raises:
        TypeError: They are none.
        ValueError: They do not fit together, or the output directory cannot be one.
    """
    kind = type(args).__qualname__
    if args is None:
        args = TrainingArguments()
    if not isinstance(args, TrainingArguments):
        hint = "(**args)" if isinstance(args, dict) else "(output_dir=...)"
        raise TypeError(f"args is a {kind}, not TrainingArguments; pass TrainingArguments{hint}")
    args.check()
    _check_folder(args.output_dir or "")
    return args


def _check_folder(name: str) -> None:
    if "\0" in name:
        raise ValueError(f"output_dir={name!r} has a null byte, which no path may; leave it out")
    folder = Path(name).expanduser()
    for each in (folder, *folder.parents):
        if each.exists():
            if not each.is_dir():
                raise ValueError(
                    f"output_dir={name!r} cannot be a folder, because {each} is a file; set "
                    "output_dir to another path"
                )
            return


def checked_model(model: object, name: str, *, may_be_empty: bool = False) -> torch.nn.Module:
    """A model that can be trained.

    Args:
        model: What was given.
        name: As what, for messages.
        may_be_empty: Whether somebody else has the values of its parameters.

    Raises:
        TypeError: It is no module.
        ValueError: Parameters of it have no values.
    """
    if isinstance(model, type):
        kind = model.__qualname__
        raise TypeError(f"{name} is the class {kind}; a torch.nn.Module is needed, {kind}(...)")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"{name} is {model!r:.80}, of {type(model).__qualname__}; pass a torch.nn.Module, "
            "loaded already"
        )
    empty = [name for name, each in model.named_parameters() if each.is_meta]
    if empty and not may_be_empty:
        raise ValueError(
            f"{type(model).__qualname__} has parameters on the meta device, without values "
            f"({', '.join(empty[:3])}); load its weights, or make them with to_empty and "
            "initialise them, before passing it"
        )
    return model


def made_model(model_init: object) -> torch.nn.Module:
    """The model that a `model_init` makes; one that takes an argument gets None, for no trial.

    Raises:
        TypeError: It is no function, needs more arguments, or makes no module.
    """
    if isinstance(model_init, torch.nn.Module) or not callable(model_init):
        raise TypeError(
            f"model_init is a {type(model_init).__qualname__}; pass a function that makes a "
            "model, or the model itself as model=..."
        )
    if cannot_bind(model_init, 0) is None:
        made: object = model_init()
    elif (fault := cannot_bind(model_init, 1)) is None:
        made = model_init(None)
    else:
        raise TypeError(
            f"model_init is called without arguments, or with a trial that is None, and takes "
            f"neither: {fault}; give the others defaults"
        )
    return checked_model(made, "what model_init returned")


def checked_callbacks(callbacks: object) -> "Iterable[TrainerCallback | type[TrainerCallback]]":
    """The callbacks as something to go through.

    Raises:
        TypeError: They are none; each of them is looked at when it is added.
    """
    if callbacks is None:
        return ()
    if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks={callbacks!r:.80} must be a list of callbacks; pass callbacks=[...], even "
            "for one"
        )
    return cast("Iterable[TrainerCallback | type[TrainerCallback]]", callbacks)


def check_sinks(sinks: "Sequence[Sink]") -> None:
    """Refuse two sinks of one name, which would be one destination twice.

    Raises:
        ValueError: Naming it.
    """
    names = [each.name for each in sinks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"the sink {twice!r} is asked for twice, in report_to={names} and sinks together; "
            "leave one of them out"
        )


def check_run(run: object) -> None:
    """Refuse a run that is none.

    Raises:
        TypeError: It is something else.
    """
    if run is not None and not isinstance(run, Run):
        raise TypeError(
            f"run is a {type(run).__qualname__}; pass a runtime.Run, or leave it out and set its "
            "name with TrainingArguments(run_name=...)"
        )
