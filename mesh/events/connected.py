"""Connected: work on a bus begins as soon as its broker is there, however late that is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import NoReturn

from mesh.events.bus import Bus, BusError
from mesh.policy.backoff import Backoff

logger = logging.getLogger("mesh.events")

# Between two tries to reach the broker, in seconds.
RECONNECT = Backoff(base=0.1, cap=5.0)


async def connected(
    make: Callable[[], Bus],
    work: Callable[[Bus], Awaitable[NoReturn]],
    *,
    rng: Random | None = None,
) -> NoReturn:
    """
    Run `work` on a bus of its own, for ever; a broker that is away is tried again.

    A service that has an outbox need not wait for a broker to start: what it tells waits there.
    """
    rng, failures, said = rng or Random(), 0, ""
    while True:
        try:
            async with make() as bus:
                failures, said = 0, ""
                await work(bus)
        except BusError as error:
            failures += 1
            if str(error) != said:
                logger.warning("no bus yet: %s", error)
                said = str(error)
            await asyncio.sleep(RECONNECT.delay(failures, rng))
