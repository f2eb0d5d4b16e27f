"""Who watches the run and who decides about it; all of this runs beside the training thread."""

import math
from collections.abc import Mapping

from bus import Control, Evaluated, EventStream, MetricsLogged, Save, Stop
from runtime import EarlyStopping, Patience, Run

_WORTHWHILE = 1e-3
"""An evaluation must be better by this many nats to count against impatience."""


def attach_subscribers(run: Run, *, patience: int, evaluations: Mapping[int, float]) -> None:
    """Lets a watcher and two deciders loose on a run.

    Args:
        run: What to watch.
        patience: Evaluations without a better one that are tolerated.
        evaluations: The validation loss by step so far; the deciders go on from there, so a
            resumed run decides as an unbroken one.
    """

    @run.subscribe(MetricsLogged, when=lambda event: "loss" in event.metrics)
    async def stop_on_divergence(events: EventStream[MetricsLogged], control: Control) -> None:
        async for event in events:
            loss = event.metrics["loss"]
            if not math.isfinite(loss):
                control.request(Stop(reason=f"loss is {loss} at step {event.step}"))
                return

    best = min(evaluations.values(), default=math.inf)

    @run.decider(Evaluated)
    async def save_the_best(event: Evaluated) -> Save | None:
        nonlocal best
        loss = event.metrics["eval_loss"]
        if not loss < best:
            return None
        best = loss
        if not event.step:  # the untrained model is saved in any case
            return None
        return Save(reason=f"best validation loss so far, {loss:.3f}")

    policy = EarlyStopping(metric="eval_loss", patience=patience, min_delta=_WORTHWHILE)
    state = Patience()
    for step, loss in evaluations.items():
        state = policy.update(state, loss, step)
    run.decider(Evaluated)(policy.decider(state))
