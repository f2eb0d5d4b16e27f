"""What `console.py` asks of the process that measures a case, and what it gets back."""

from typing import Literal, TypeAlias

from _step_cost_result import Plan
from pydantic import BaseModel

Shown: TypeAlias = Literal["panel", "lines", "tqdm", "tqdm in the loop", "rich in the loop"]


class ShownPlan(Plan):
    """One case.

    Attributes:
        shown: What shows the run in the blocks that are compared.
    """

    shown: Shown


class ShownResult(BaseModel):
    """What a case measured; a number for each block.

    Attributes:
        base: Mean step in seconds of a run that nobody watches.
        base_p99: 99th percentile of those steps.
        base_cpu: CPU time of the training thread in a step.
        shown: Mean step of a run that is shown.
        shown_p99: 99th percentile of those steps.
        shown_cpu: CPU time of the training thread in a step.
        share: CPU time a second of everything but the training thread, while it is shown.
        base_share: The same while it is not.
    """

    base: list[float] = []
    base_p99: list[float] = []
    base_cpu: list[float] = []
    shown: list[float] = []
    shown_p99: list[float] = []
    shown_cpu: list[float] = []
    share: list[float] = []
    base_share: list[float] = []
