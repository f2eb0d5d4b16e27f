"""Counts the tokens that a training has seen; those told apart by a mask stay on the device."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import torch

log = logging.getLogger("runtime")

Which: TypeAlias = Literal["no", "all", "non_padding"]

SEEN: Final = "num_input_tokens_seen"


class TokenCount:
    """The tokens of all micro-batches.

    Args:
        which: All of them, only those that are no padding, or "no" to count none.
        name: The input that holds tokens, such as `input_ids`.
        padding: The token that stands for nothing, where no attention mask says so.
        seen: Tokens seen by earlier attempts.

    Attributes:
        host: Tokens counted on the host, earlier attempts' included.
        device: Tokens counted on the device, an integer tensor; None if there are none.
    """

    def __init__(self, which: Which, name: str, padding: int | None, seen: int) -> None:
        self.host = seen
        self.device: torch.Tensor | None = None
        self._which = which
        self._name = name
        self._padding = padding
        self._initial = seen
        self._everybody: torch.Tensor | None = None
        self._warned = False

    @property
    def counts(self) -> bool:
        """Whether tokens are counted at all."""
        return self._which != "no"

    def in_batch(self, inputs: object) -> int:
        """Tokens of a micro-batch, padding included; 0 if there is no such input."""
        tokens = _named(inputs).get(self._name)
        return tokens.numel() if isinstance(tokens, torch.Tensor) else 0

    def add(self, inputs: object) -> None:
        """Count a micro-batch."""
        if self._which == "no":
            return
        named = _named(inputs)
        tokens = named.get(self._name)
        if not isinstance(tokens, torch.Tensor):
            self._warn(
                f"there is no input {self._name!r} to count tokens in; set main_input_name on the "
                "model to the input that holds them"
            )
            return
        if self._which == "all":
            self.host += tokens.numel()
            return
        mask = named.get("attention_mask")
        if isinstance(mask, torch.Tensor):
            counted = mask.sum()
        elif self._padding is not None:
            counted = tokens.ne(self._padding).sum()
        else:
            self._warn("neither an attention mask nor a padding token tells padding; all counts")
            self.host += tokens.numel()
            return
        self.device = counted if self.device is None else self.device + counted

    def add_up(self, total: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """From now on tell what all processes have counted up to this moment.

        Args:
            total: Gives the sum over all processes, on the device.
        """
        own = torch.tensor(self.host - self._initial)
        self._everybody = total(own if self.device is None else self.device + own)

    def on_host(self, started: float | None) -> dict[str, float]:
        """What is to be logged and known here; nothing if a part is on the device."""
        if not self.counts or self.device is not None or self._everybody is not None:
            return {}
        return {SEEN: self.host, **self._speed(self.host - self._initial, started)}

    def on_device(self, started: float | None) -> dict[str, torch.Tensor]:
        """What is to be logged and is still on the device."""
        session = self._everybody
        if session is None:
            if self.device is None:
                return {}
            session = self.device + (self.host - self._initial)
        speed = self._speed(session, started)
        told = {name: torch.as_tensor(value) for name, value in speed.items()}
        return {SEEN: session + self._initial, **told}

    def total(self) -> int:
        """All tokens, as far as they were added up; waits for the device."""
        if self._everybody is not None:
            return self._initial + int(self._everybody)
        return self.host + (0 if self.device is None else int(self.device))

    def _speed(self, tokens: Any, started: float | None) -> dict[str, Any]:  # noqa: ANN401 - a number or a tensor
        if started is None:
            return {}
        seconds = time.time() - started
        return {
            "train_runtime": seconds,
            "train_tokens_per_second": tokens / max(seconds, 1e-9),
        }

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("tokens are not counted as asked: %s", text)


def _named(inputs: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", inputs) if isinstance(inputs, Mapping) else {}
