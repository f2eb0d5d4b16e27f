"""How a delivery comes to own its cursor, or waits for who has it."""

from collections.abc import Callable

import anyio

from bus._collector import Disk
from bus._cursor import Cursor, CursorFile, StillOwnedError
from bus._patience import OverError, Patience


class Owning:
    """The way to one cursor.

    Args:
        file: The cursor's.
        disk: Makes calls that may wait for a disk.
        patience: How long may be waited at all.
        gives_way: Seconds after which another owner counts as stuck; None to raise at once.
        tell: Told why it waits.
    """

    def __init__(
        self,
        file: CursorFile,
        disk: Disk,
        patience: Patience,
        gives_way: float | None,
        tell: Callable[[str], None],
    ) -> None:
        self._file = file
        self._disk = disk
        self._patience = patience
        self._gives_way = gives_way
        self._tell = tell

    async def own(self, pause: float, *, take_over: bool) -> Cursor:
        """Wait for the cursor, trying after each pause, and own it.

        Raises:
            StillOwnedError: Another process delivers, and this one was not to wait for it.
            OverError: There is no more time.
        """
        began = anyio.current_time()
        while not self._patience.exhausted:
            # The newer one is right: it goes on with the run.
            waited = anyio.current_time() - began
            stuck = self._gives_way is not None and waited >= self._gives_way
            try:
                cursor: Cursor = await self._disk(self._file.acquire, take_over or stuck)
            except StillOwnedError as error:
                if self._gives_way is None:
                    raise
                self._tell(str(error))
            except OSError as error:
                self._tell(f"the cursor cannot be written: {error}")
            else:
                return cursor
            await self._patience.sleep(pause)
        raise OverError
