"""Lightning's trainer on our bus: TensorBoard, and a decider that stops after a validation.

Needs `pip install lightning`.

    python examples/bridge_lightning.py
"""

import lightning
import torch

from bus import Evaluated, Stop
from runtime.bridges.lightning import BusControl, BusLogger


class Line(lightning.LightningModule):
    """y = ax + b."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rate = rate
        self.layer = torch.nn.Linear(1, 1)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """The mean square."""
        return (self.layer(x) - 3 * x + 1).square().mean()

    def training_step(self, x: torch.Tensor, _index: int) -> torch.Tensor:
        """Log the loss, unread."""
        loss = self.loss(x)
        self.log("loss", loss)
        return loss

    def validation_step(self, x: torch.Tensor, _index: int) -> None:
        """The same."""
        self.log("val_loss", self.loss(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def main() -> lightning.Trainer:
    """Train until a validation is good enough; returns the trainer."""
    data = torch.utils.data.DataLoader(torch.linspace(-1, 1, 64)[:, None], batch_size=8)
    with BusLogger(["tensorboard"], name="bridge_lightning") as logger:

        @logger.run.decider(Evaluated, deadline=5.0)
        async def enough(event: Evaluated) -> Stop | None:
            return Stop(reason="good enough") if event.metrics["val_loss"] < 0.01 else None

        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=100,
            logger=logger,
            callbacks=[BusControl()],
            enable_progress_bar=False,
        )
        trainer.fit(Line(), data, data)
    return trainer


if __name__ == "__main__":
    print(f"stopped after epoch {main().current_epoch} of 100")
