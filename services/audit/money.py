"""
Money: what was captured is what the confirmed orders cost, order by order.

    CONFIRMED  one payment, CAPTURED, of the order's total
    CANCELLED  none that is CAPTURED
"""

from __future__ import annotations

from collections.abc import Iterator

from services.audit.domain import Amount, Books, Finding, Order, Payment, Subject

CAPTURED = "CAPTURED"
NANOS = 1_000_000_000


def money(books: Books) -> Iterator[Finding]:
    """What does not agree between orders and payments."""
    paid: dict[str, list[Payment]] = {}
    for payment in books.payments:
        paid.setdefault(payment.order_id, []).append(payment)
        if payment.order_id not in books.after and payment.status == CAPTURED:
            yield _wrong(
                f"payment {payment.payment_id} took {text(payment.amount)}"
                f" for order {payment.order_id!r}, which does not exist"
            )
    for order in books.finished():
        mine = paid.get(order.order_id, [])
        if order.status == "CONFIRMED":
            yield from _confirmed(order, mine)
        else:
            for payment in mine:
                if payment.status == CAPTURED:
                    yield _wrong(
                        f"order {order.order_id} is CANCELLED,"
                        f" and payment {payment.payment_id} took {text(payment.amount)} for it"
                    )


def _confirmed(order: Order, mine: list[Payment]) -> Iterator[Finding]:
    captured = [payment for payment in mine if payment.status == CAPTURED]
    if not captured:
        others = ", ".join(f"payment {each.payment_id} is {each.status}" for each in mine)
        yield _wrong(
            f"order {order.order_id} is CONFIRMED over {text(order.total)}"
            f" and not paid: {others or 'there is no payment'}"
        )
    elif len(captured) > 1:
        ids = ", ".join(payment.payment_id for payment in captured)
        yield _wrong(f"order {order.order_id} is paid {len(captured)} times: {ids}")
    elif captured[0].amount != order.total:
        yield _wrong(
            f"order {order.order_id} cost {text(order.total)},"
            f" payment {captured[0].payment_id} took {text(captured[0].amount)}"
        )


def taken(books: Books) -> dict[str, int]:
    """What was captured, by currency, in billionths."""
    sums: dict[str, int] = {}
    for payment in books.payments:
        if payment.status == CAPTURED and payment.amount is not None:
            currency, nanos = payment.amount
            sums[currency] = sums.get(currency, 0) + nanos
    return dict(sorted(sums.items()))


def text(amount: Amount | None) -> str:
    """An amount for people; digits behind the point as many as there are, two at least."""
    if amount is None:
        return "nothing"
    currency, nanos = amount
    units, rest = divmod(nanos, NANOS)
    return f"{units}.{f'{rest:09}'.rstrip('0').ljust(2, '0')} {currency}"


def _wrong(what: str) -> Finding:
    return Finding(Subject.MONEY, what)
