"""The audit: every check over one copy of the books; what it finds, and what it counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.audit.domain import Books, Finding, Subject
from services.audit.money import money, taken, text
from services.audit.stock import stock
from services.audit.told import told

# Seconds without a change after which an open order is no longer on its way: twice its deadline.
OPEN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found; `imported` is for the next one."""

    wrong: Sequence[Finding]
    in_flight: Sequence[Finding]
    figures: Mapping[str, str]
    imported: Mapping[str, int]

    @property
    def settled(self) -> bool:
        """Whether all agrees and nothing is on its way."""
        return not self.wrong and not self.in_flight


def audit(books: Books) -> Report:
    """Compare everything with everything."""
    found = [*_open(books), *money(books), *stock(books), *told(books)]
    return Report(
        wrong=[each for each in found if not each.waiting],
        in_flight=[each for each in found if each.waiting],
        figures=_figures(books),
        imported={product.product_id: product.imported for product in books.products},
    )


def _open(books: Books) -> Iterator[Finding]:
    for order in books.in_flight():
        seconds = books.now - order.updated
        yield Finding(
            Subject.ORDER,
            f"order {order.order_id} is {order.status} since {max(seconds, 0.0):.0f} s",
            waiting=order.finished or seconds <= OPEN_SECONDS,
        )
    for order_id in books.before.keys() - books.after.keys():
        yield Finding(Subject.ORDER, f"order {order_id} was there and is gone")


def _figures(books: Books) -> dict[str, str]:
    confirmed = sum(order.status == "CONFIRMED" for order in books.before.values())
    sums = [text((currency, nanos)) for currency, nanos in taken(books).items()]
    return {
        "orders": str(len(books.before)),
        "confirmed": str(confirmed),
        "captured": " + ".join(sums) or "nothing",
        "products": str(len(books.products)),
        "events": str(sum(len(feed.events) for feed in books.feeds)),
        "notifications": str(len(books.notifications)),
    }
