"""
Taking: a member holds on to what it was given until its inbox has it.

Whatever keeps an inbox from taking events in is the inbox's trouble, not the events': giving them
back to the broker would only count deliveries, and let what follows pass.  So they are tried again
here, under backoff, until they are taken or the member is told to stop; then they are the broker's
again, which never heard that they were taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import Random

from mesh.events.bus import Take
from mesh.events.event import Event
from mesh.policy.backoff import Backoff

logger = logging.getLogger("mesh.events")

# Between two tries, in seconds.
AGAIN = Backoff(base=0.1, cap=5.0)


async def hold(
    take: Take,
    events: Callable[[], Sequence[Event]],
    *,
    what: str,
    rng: Random,
    backoff: Backoff = AGAIN,
) -> None:
    """Have `take` see `events()`, asked for before each try, until it does not raise."""
    failures = 0
    while True:
        try:
            if wanted := events():
                await take(wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, the events are not taken
            failures += 1
            logger.warning("%s can't be taken in yet: %s", what, error)
            await asyncio.sleep(backoff.delay(failures, rng))
        else:
            return
