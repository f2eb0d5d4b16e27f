"""What becomes of a batch while part of it has to wait: it grows by what comes behind it."""

from typing import Final

import anyio

from bus._collector import Collector
from bus._parts import Part
from bus._patience import Patience

LONGEST: Final = 32
"""How often a batch becomes longer, each time by as much as a batch may have at most."""


async def lengthened(
    part: Part,
    collector: Collector,
    patience: Patience,
    *,
    delay: float,
    look: float,
    age: float,
) -> Part:
    """Wait until part of a batch may be tried again, or until there is more behind it.

    Args:
        part: The batch.
        collector: What knows what is behind it.
        patience: How long may be waited at all.
        delay: Seconds that part of it must wait.
        look: Seconds between two looks.
        age: Seconds in which more is gathered, unless the run ends.

    Returns:
        It, longer if there is more.

    Raises:
        OverError: The run closes before it may be tried again.
    """
    began = anyio.current_time()
    while (left := began + delay - anyio.current_time()) > 0:
        ending = patience.ending
        if ending or anyio.current_time() >= began + age:
            longer = await collector.lengthened(part)
            if longer is not None:
                return longer
        if ending:
            await patience.sleep(left, obeys=True)
        else:
            await patience.sleep(min(left, look), stirred=True)
    return part
