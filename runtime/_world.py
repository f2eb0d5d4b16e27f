"""Which process this is among those that train together, as torch or their launcher says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch.distributed


@dataclass(frozen=True, slots=True)
class World:
    """A process's place among all that train together.

    Attributes:
        rank: Its number among all, from 0.
        size: How many there are.
        local_rank: Its number among those of its machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def alone(self) -> bool:
        """Whether it trains by itself."""
        return self.size == 1

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "World":
        """Where this process is: what the process group says, or else RANK, WORLD_SIZE, LOCAL_RANK.

        torchrun sets these for each of its workers (docs.pytorch.org/docs/stable/elastic/run.html).

        Raises:
            ValueError: They are no numbers, or say that this rank cannot be.
        """
        local_rank = _number(environment, "LOCAL_RANK", 0)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            group = torch.distributed
            return cls(group.get_rank(), group.get_world_size(), local_rank)
        rank, size = _number(environment, "RANK", 0), _number(environment, "WORLD_SIZE", 1)
        if not 0 <= rank < size:
            raise ValueError(
                f"RANK={rank} cannot be with WORLD_SIZE={size}; launchers such as torchrun set both"
            )
        return cls(rank, size, local_rank)


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name) or str(otherwise)
    if not text.isdecimal():
        raise ValueError(
            f"{name}={text!r} must be a whole number, as launchers such as torchrun set"
        )
    return int(text)
