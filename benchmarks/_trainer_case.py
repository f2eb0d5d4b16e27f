"""One case of `trainer.py`: blocks of training by one contender between blocks by another.

Started by it as `python _trainer_case.py FOLDER PLAN`; prints a `Result` as JSON.
"""

import gc
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from _trainer_contenders import CONTENDERS
from _trainer_result import Contender, Plan, Result
from _trainer_work import make_task

# Benchmarks beside this file are called like packages that trainers look for.
sys.path[:] = [each for each in sys.path if Path(each) != Path(__file__).resolve().parent]


def train_block(folder: Path, plan: Plan, contender: Contender) -> float:
    """Train once, in a folder of its own; returns the mean step in seconds."""
    task = make_task(plan)
    with TemporaryDirectory(dir=folder) as own, redirect_stdout(sys.stderr):
        CONTENDERS[contender](task, Path(own), plan.every_step)
    assert len(task.model.called) == task.steps, (contender, len(task.model.called), task.steps)
    return task.model.seconds(plan.warm)


def measure_case(folder: Path, plan: Plan) -> Result:
    """Alternate blocks of base and contender."""
    result = Result()
    for contender in (plan.base, plan.contender):
        train_block(folder, plan, contender)
    gc.collect()
    gc.freeze()  # collecting the imported modules would fall upon whoever is at work
    for _ in range(plan.blocks):
        result.base.append(train_block(folder, plan, plan.base))
        result.measured.append(train_block(folder, plan, plan.contender))
    result.base.append(train_block(folder, plan, plan.base))
    return result


def main() -> None:
    """Measure the case that the command line describes."""
    folder, plan = sys.argv[1:]
    warnings.simplefilter("ignore")  # each library has advice for so small a training
    torch.set_num_threads(1)
    print(measure_case(Path(folder), Plan.model_validate_json(plan)).model_dump_json())


if __name__ == "__main__":
    main()
