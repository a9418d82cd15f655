"""How often and for how long a thing is tried again that would succeed in better times."""

from __future__ import annotations

import asyncio
from random import Random

from mesh.store.database import StoreBusy
from mesh.store.postgres.failures import Again

# Between two tries, in seconds: at first at most, and at last at most.
_FIRST_PAUSE, _LAST_PAUSE = 0.002, 0.25


class Patience:
    """The patience for one batch: `seconds` from now on."""

    def __init__(self, seconds: float, rng: Random) -> None:
        self._clock = asyncio.get_running_loop().time
        self._ends = self._clock() + seconds
        self._pause = _FIRST_PAUSE
        self._rng = rng

    async def wait(self, again: Again) -> None:
        """Wait before the next try; when patience is over, `again` is raised as StoreBusy."""
        if self._clock() >= self._ends:
            raise StoreBusy(again.path, again.cause) from again
        await asyncio.sleep(self._rng.uniform(0, self._pause))
        self._pause = min(_LAST_PAUSE, self._pause * 2)
