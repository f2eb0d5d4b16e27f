"""Label smoothing, as a loss of a model's logits.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016), section 7: the
target distribution gives `1 - epsilon` to the label and shares `epsilon` among all classes.
"""

from dataclasses import dataclass
from typing import Final

import torch

IGNORED: Final = -100
"""The label that counts for nothing, as in `torch.nn.functional.cross_entropy`."""


@dataclass(frozen=True, slots=True)
class LabelSmoother:
    """Computes the smoothed loss; nothing is read on the host.

    Attributes:
        epsilon: What is taken from the label, 0 to 1.
    """

    epsilon: float

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        *,
        shift: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The mean over labels that count.

        Args:
            logits: Shape (..., classes).
            labels: Shape (...), class numbers or -100.
            shift: Whether position i predicts label i + 1, as in causal language models.
            num_items_in_batch: Labels that count in the whole accumulated batch, instead of here.
        """
        if shift:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        log_probabilities = torch.log_softmax(logits.float(), dim=-1)
        ignored = labels.eq(IGNORED).unsqueeze(-1)
        targets = labels.clamp(min=0).unsqueeze(-1)
        of_label = -log_probabilities.gather(-1, targets).masked_fill(ignored, 0.0).sum()
        of_all = -log_probabilities.sum(-1, keepdim=True).masked_fill(ignored, 0.0).sum()
        count = (~ignored).sum() if num_items_in_batch is None else num_items_in_batch
        classes = logits.shape[-1]
        return (1 - self.epsilon) * of_label / count + self.epsilon * of_all / (count * classes)
