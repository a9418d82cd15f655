"""The card network, as far as this shop has one: it knows two cards by name and takes the rest."""

from __future__ import annotations

import asyncio

DECLINED = "card-declined"
SLOW = "card-slow"


class CardNetwork:
    """Says whether a card may be charged; "card-slow" makes it think for `slow` seconds."""

    def __init__(self, slow: float = 2.0) -> None:
        self._slow = slow

    async def authorise(self, method: str) -> bool:
        if method == SLOW:
            await asyncio.sleep(self._slow)
        return method != DECLINED
