"""
A hold ends by itself: stock that nobody bought in time can be bought again.

    HELD for `hold` seconds --release--> RELEASED, and StockReleased is told

Whoever held it may be away for good, or be unable to learn whether the card was charged.  A commit
that comes later is refused (RESERVATION_RELEASED), and the order's saga gives the money back.  Any
number of instances may look: a release has its effect once.
"""

from __future__ import annotations

import asyncio
import logging

from mesh.store import StoreError
from services.inventory.handlers import Inventory

logger = logging.getLogger("services.inventory")

# Twice what an order has until its end, in seconds: its own saga is the first to give stock back.
HOLD_SECONDS = 60.0
# Longest time between two looks, in seconds.
LOOK_SECONDS = 1.0


async def expire(inventory: Inventory, hold: float = HOLD_SECONDS) -> None:
    """Release what has been held for longer than `hold` seconds, for ever."""
    while True:
        try:
            released = await inventory.release_older(hold)
        except StoreError as error:
            logger.warning("old holds can't be looked for: %s", error)
            released = 0
        if released:
            logger.info("%d reservations were held for over %g s and released", released, hold)
        else:
            await asyncio.sleep(min(LOOK_SECONDS, hold / 4))
