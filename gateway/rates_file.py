"""
A file of rates that changes while it is in force.

    changed and right  -> in force at once; a bucket that was drawn dry fills by its new rate
    changed and wrong  -> refused whole: the last good rates stay, and the log says once why
    gone               -> the same

Each worker looks for itself, every second; a file that is being written is looked at again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gateway.rates import Rate, Rates, RatesError

log = logging.getLogger(__name__)

SECONDS = 1.0
# A file that has changed must stay as it is for so long.
SETTLE_SECONDS = 0.05


class RatesFile:
    """The file at `path`; `usual` is for whoever it does not name.  RatesError: it is wrong now."""

    def __init__(self, path: Path, usual: Rate | None = None, *, seconds: float = SECONDS) -> None:
        self.path = path
        self.first = Rates.read(path, usual)
        # Why its newest text is not in force; "" when it is.
        self.refused = ""
        self._usual = usual
        self._seconds = seconds

    async def follow(self, use: Callable[[Rates], None]) -> NoReturn:
        """Have every change that is right used, for ever."""
        last = self.first.rates
        while True:
            await asyncio.sleep(self._seconds)
            try:
                found = await asyncio.to_thread(self._read)
                while found.rates != last:
                    await asyncio.sleep(SETTLE_SECONDS)
                    again = await asyncio.to_thread(self._read)
                    if again.rates == found.rates:
                        use(found)
                        last = found.rates
                        log.warning("rates: %s is in force", self.path)
                    found = again
                self.refused = ""
            except RatesError as error:
                if str(error) != self.refused:
                    self.refused = str(error)
                    log.warning(
                        "rates: %s is refused, the last good ones stay: %s", self.path, error
                    )

    def _read(self) -> Rates:
        return Rates.read(self.path, self._usual)
