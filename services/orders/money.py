"""Money in whole numbers: units and billionths of a currency, never a float."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Money:
    """`units` whole and `nanos` billionths of a currency; nanos is 0 to 999999999."""

    currency: str
    units: int
    nanos: int = 0

    def times(self, count: int) -> Money:
        return _money(self.currency, (self.units * NANOS + self.nanos) * count)


def total(amounts: Iterable[Money]) -> Money:
    """The sum of one or more amounts in one currency."""
    listed = list(amounts)
    (currency,) = {amount.currency for amount in listed}
    return _money(currency, sum(amount.units * NANOS + amount.nanos for amount in listed))


def _money(currency: str, nanos: int) -> Money:
    units, rest = divmod(nanos, NANOS)
    return Money(currency, units, rest)
