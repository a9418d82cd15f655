"""
The saga that sees an order through: four steps, each undone if a later one does not come about.

    reserve   hold the stock; sets prices and total         undone by releasing it
    charge    capture the payment                           undone by refunding it
    sell      the held stock is sold                        undone by reserve's release
    confirm   the pivot, and nothing but our own row: from here on the order can't be cancelled

Stock is sold before the order shows CONFIRMED, so a finished order never has stock that is merely
held.  Ids of reservation and payment come from the order's, so that what got no answer can be
undone by name; the other side then refuses the call should it still arrive.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from uuid import UUID, uuid5

from mesh.events.outbox import Outbox
from mesh.identity import speaking
from mesh.saga import Context, Refused, Saga, Step
from mesh.store import Database, Transaction
from services.access import OPEN, Access
from services.orders import store
from services.orders.domain import Fact, Order, Reason
from services.orders.events import message
from services.orders.handlers import SAGA
from services.orders.money import Money
from services.orders.record import read_money, write_money
from services.tracing import under

# Seconds from the order to its end: after them a saga that is not through turns back.
DEADLINE = 30.0

IDS = UUID("2c8e5d14-9b3f-5e60-b0a7-4be3d7c18f04")


Call = Callable[[Context], Awaitable[Any]]


class Stock(Protocol):
    """Whoever holds and sells stock."""

    async def prices(self, order: Order) -> dict[str, Money]: ...

    async def reserve(self, order: Order, reservation_id: str, request_id: str) -> None: ...

    async def commit(self, reservation_id: str) -> None: ...

    async def release(self, reservation_id: str, request_id: str) -> None: ...


class Till(Protocol):
    """Whoever takes money and gives it back."""

    async def charge(self, order: Order, payment_id: str, request_id: str) -> None: ...

    async def refund(self, payment_id: str, request_id: str) -> None: ...


def reservation_id(order_id: str) -> str:
    return str(uuid5(IDS, f"{order_id}/reservation"))


def payment_id(order_id: str) -> str:
    return str(uuid5(IDS, f"{order_id}/payment"))


def place_order(
    database: Database,
    outbox: Outbox,
    stock: Stock,
    till: Till,
    *,
    deadline: float = DEADLINE,
    access: Access = OPEN,
    now: Callable[[], int] = time.time_ns,
) -> Saga:
    """The saga "place-order"; its id is the order's."""

    def traced(call: Call) -> Call:
        """*call*, made under the trace in which the order was taken, and for its customer."""

        async def made(context: Context) -> Any:
            saying = access.saying("orders", context.data.get("customer_id", ""))
            with under(context.data["traceparent"]), speaking(saying):
                return await call(context)

        return made

    async def change(tx: Transaction, order_id: str, to: Callable[[Order], Order]) -> Order:
        before = await store.load(tx, order_id)
        order = to(before.order)
        store.save(tx, order, before)
        return order

    async def the_order(context: Context) -> Order:
        return (await database.read(lambda tx: store.load(tx, context.id))).order

    async def reserve(context: Context) -> dict[str, Any]:
        order = await the_order(context)
        name = reservation_id(order.order_id)
        try:
            prices = await stock.prices(order)
            await stock.reserve(order, name, context.request_id)
        except Refused:
            # An earlier attempt that got no answer may still arrive, and find stock by then.
            await stock.release(name, f"{context.request_id}/never")
            raise
        return {product_id: write_money(price) for product_id, price in prices.items()}

    async def reserved(tx: Transaction, context: Context, result: Mapping[str, Any]) -> None:
        prices = {each: price for each in result if (price := read_money(result[each]))}
        await change(tx, context.id, lambda order: order.reserved(prices, now()))

    async def release(context: Context) -> None:
        await stock.release(reservation_id(context.id), context.request_id)

    async def charge(context: Context) -> None:
        order = await the_order(context)
        await till.charge(order, payment_id(order.order_id), context.request_id)

    async def charged(tx: Transaction, context: Context, result: object) -> None:
        await change(tx, context.id, lambda order: order.paid(now()))

    async def refund(context: Context) -> None:
        await till.refund(payment_id(context.id), context.request_id)

    async def sell(context: Context) -> None:
        await stock.commit(reservation_id(context.id))

    async def confirmed(tx: Transaction, context: Context, result: object) -> None:
        order = await change(tx, context.id, lambda order: order.confirmed(now()))
        await outbox.append(tx, message(Fact.CONFIRMED, order, context.data["traceparent"]))

    async def ended(tx: Transaction, context: Context, outcome: str, reason: str) -> None:
        if outcome == "completed":
            return  # the step confirm has done it all
        order = (await store.load(tx, context.id)).order
        if order.status.is_final:
            return
        why = Reason(reason) if reason in Reason.__members__ else Reason.TIMED_OUT
        order = await change(tx, context.id, lambda order: order.cancelled(why, now()))
        await outbox.append(tx, message(Fact.CANCELLED, order, context.data["traceparent"]))

    return Saga(
        SAGA,
        Step("reserve", do=traced(reserve), then=reserved, undo=traced(release)),
        Step("charge", do=traced(charge), then=charged, undo=traced(refund)),
        Step("sell", do=traced(sell)),
        Step("confirm", then=confirmed, kind="pivot"),
        deadline=deadline,
        ended=ended,
    )
