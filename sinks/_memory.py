"""What a tracker's sink remembers, as the delivery keeps it."""

from pydantic import BaseModel

from bus import State


class SinkMemory(BaseModel):
    """What is remembered between batches, processes and attempts."""

    def state(self) -> State:
        """As the delivery keeps it."""
        return self.model_dump(mode="json", exclude_defaults=True)
