"""Who watches the run and who decides about it; all of this runs beside the training thread."""

import math

from bus import Control, Evaluated, EventStream, MetricsLogged, Save, Stop
from runtime import EarlyStopping, Patience, Run
from runtime.demo._learner import Learner

_WORTHWHILE = 1e-3
"""An evaluation must be better by this many nats to count against impatience."""


def attach_subscribers(run: Run, learner: Learner) -> None:
    """Lets a watcher and two deciders loose on a run.

    The deciders go on from the evaluations there are, so a resumed run decides as an unbroken one.
    """

    @run.subscribe(MetricsLogged, when=lambda event: "train/loss" in event.metrics)
    async def stop_on_divergence(events: EventStream[MetricsLogged], control: Control) -> None:
        async for event in events:
            loss = event.metrics["train/loss"]
            if not math.isfinite(loss):
                control.request(Stop(reason=f"loss is {loss} at step {event.step}"))
                return

    best = min(learner.evaluations.values(), default=math.inf)

    @run.decider(Evaluated)
    async def save_the_best(event: Evaluated) -> Save | None:
        nonlocal best
        loss = event.metrics["loss"]
        if not loss < best:
            return None
        best = loss
        return Save(reason=f"best validation loss so far, {loss:.3f}")

    policy = EarlyStopping(patience=learner.recipe.patience, min_delta=_WORTHWHILE)
    patience = Patience()
    for step, loss in learner.evaluations.items():
        patience = policy.update(patience, loss, step)
    run.decider(Evaluated)(policy.decider(patience))
