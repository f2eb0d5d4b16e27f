"""Transformers' trainer on our bus: TensorBoard, and a subscriber that stops the training.

Needs `pip install transformers accelerate`.

    python examples/bridge_transformers.py
"""

import torch
import transformers

from bus import Control, EventStream, MetricsLogged, Stop
from runtime.bridges.transformers import BusCallback


class Line(torch.nn.Module):
    """y = ax + b, with its loss, as Transformers wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean square, and what the line says."""
        y = self.layer(x).squeeze(-1)
        return {"loss": (y - labels).square().mean(), "logits": y}


def main() -> transformers.TrainerState:
    """Train until the loss is below 0.01; returns what the trainer says of its end."""
    data = [{"x": x[None], "labels": 3 * x - 1} for x in torch.linspace(-1, 1, 64)]
    args = transformers.TrainingArguments(
        output_dir="bridge_transformers",
        learning_rate=0.1,
        max_steps=2000,
        logging_steps=10,
        save_steps=50,
        report_to="none",  # the callback delivers instead
        use_cpu=True,
        disable_tqdm=True,
    )
    with BusCallback(["tensorboard"]) as bus:
        trainer = transformers.Trainer(Line(), args, train_dataset=data, callbacks=[bus])

        @bus.run.subscribe(MetricsLogged, when=lambda event: event.metrics.get("loss", 1) < 0.01)
        async def good_enough(events: EventStream[MetricsLogged], control: Control) -> None:
            async for event in events:
                control.request(Stop(reason=f"the loss was {event.metrics['loss']:.4f}"))
                return

        trainer.train()
    return trainer.state


if __name__ == "__main__":
    print(f"stopped after step {main().global_step} of 2000")
