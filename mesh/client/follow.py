"""
From the registry to the picker: each snapshot connects, drains and is published, in that order.

A watch that breaks is begun again, later each time; the last snapshot stays in force meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from discovery.model import Snapshot
from discovery.registry import Registry

LOG = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


async def follow(
    registry: Registry, service: str, tag: str | None, publish: Callable[[Snapshot], None]
) -> None:
    """Publish every snapshot of `service`, for ever."""
    pause = FIRST_PAUSE
    while True:
        try:
            async for snapshot in registry.watch(service, tag=tag):
                publish(snapshot)
                pause = FIRST_PAUSE
            LOG.warning("the watch of %s ended; asking again in %.1f s", service, pause)
        except Exception:  # whatever a registry raises, a channel keeps its last snapshot
            LOG.exception("the watch of %s broke; asking again in %.1f s", service, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
