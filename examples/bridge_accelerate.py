"""A loop with Accelerate on our bus: TensorBoard, and saves and stops that anybody may ask for.

Needs `pip install accelerate`.

    python examples/bridge_accelerate.py
"""

import accelerate
import torch

from bus import Save, Stop
from runtime.bridges.accelerate import BusTracker


def main() -> int:
    """Train until somebody asks for a stop; returns the last step."""
    tracker = BusTracker(["tensorboard"], name="bridge_accelerate")
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("demo", config={"rate": 0.1})
    model = torch.nn.Linear(1, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in range(1, 1001):
        x = torch.rand(8, 1)
        loss = (model(x) - 3 * x + 1).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"loss": loss.detach()}, step=step)  # a tensor: no sync
        if step == 20:  # or from a subscriber, another thread, or `hotloop stop` elsewhere
            tracker.run.control.request(Save())
            tracker.run.control.request(Stop(reason="twenty"))
        decision = tracker.run.safe_point(step)
        if decision.save:
            accelerator.save_state(tracker.run.dir / f"checkpoint-{step}")
        if decision.stop:
            break
    accelerator.end_training()
    return step


if __name__ == "__main__":
    print(f"stopped after step {main()} of 1000")
