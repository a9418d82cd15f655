"""Every event ten times and in any order: the state at the end is that of each once, in order."""

from random import Random

import grpc
import pytest
from google.type.money_pb2 import Money
from shop.inventory.v1 import (
    CommitStockRequest,
    ListProductsRequest,
    ReleaseStockRequest,
    Reservation,
    ReserveStockRequest,
)
from shop.payments.v1 import (
    ChargePaymentRequest,
    GetPaymentRequest,
    Payment,
    PaymentStatus,
    RefundPaymentRequest,
)

from mesh.events import Event, Inbox, Outbox
from mesh.status import from_error
from mesh.store import Database, Transaction, connect, migrations
from services.notifications import store
from services.notifications.events import notification
from tests.services.conserved import settled
from tests.services.shopping import asking
from tests.store.postgresql import DATABASES, new_url

TIMES = 10
SEEDS = range(5)
REFUNDED = PaymentStatus.Value("PAYMENT_STATUS_REFUNDED")
# What comes too late or too early is refused, and that is all that may become of it.
REFUSALS = ("PAYMENT_REFUNDED", "RESERVATION_RELEASED", "RESERVATION_NOT_FOUND")


@pytest.fixture(params=DATABASES)
def sort(request: pytest.FixtureRequest) -> str:
    """Which sort of database the shop has, each in turn."""
    return str(request.param)


async def written(folder, sort: str, name: str, deliveries: list[list[Event]]) -> set[tuple]:
    """What the notifications are when events come in these batches."""
    async with connect(new_url(sort, folder / f"{name}.db")) as database:
        await database.migrate("notifications", migrations("services.notifications"))
        inbox = Inbox(database, consumer="notifications", source="orders", handler=write)
        for batch in deliveries:
            await inbox.deliver(batch)
        return await database.read(kept)


async def write(tx: Transaction, event: Event) -> None:
    note = notification(event.event_id, event.event_type, event.payload, 0)
    if note is not None:
        store.insert(tx, note)


async def kept(tx: Transaction) -> set[tuple]:
    rows = await tx.fetch(
        "select notification_id, customer_id, order_id, kind, text from notifications"
    )
    assert len(rows) == len({row["notification_id"] for row in rows})
    return {tuple(row) for row in rows}


async def events_of(database: Database) -> list[Event]:
    outbox = Outbox(database)
    return await database.read(lambda tx: outbox.after(tx, 0, 1000))


async def test_events_that_come_ten_times_in_any_order_have_one_effect_each(shop, tmp_path, sort):
    for number in range(12):
        card = "card-declined" if number % 3 == 0 else "card"
        await shop.orders.CreateOrder(asking(("mug", 1), card=card, customer=f"c-{number % 4}"))
    await settled(shop.orders)
    async with connect(shop.shop.url("orders")) as database:
        events = await events_of(database)
    assert len(events) == 24

    once = await written(tmp_path, sort, "once", [events])

    assert len(once) == len(events)
    for seed in SEEDS:
        many = events * TIMES
        random = Random(seed)
        random.shuffle(many)
        batches = []
        while many:
            size = random.randint(1, 30)
            batches.append(many[:size])
            many = many[size:]
        assert await written(tmp_path, sort, f"many-{seed}", batches) == once


@pytest.mark.parametrize("seed", SEEDS)
async def test_commands_that_come_ten_times_in_any_order_move_money_and_stock_once(shop, seed):
    """The calls of a saga that was aborted, and what undoes them, out of any order."""
    random = Random(seed)
    money = Money(currency_code="USD", units=29)
    payment = Payment(payment_id="p-1", order_id="o-1", amount=money, payment_method="card")
    items = [Reservation.Item(product_id="mug", quantity=2)]
    held = Reservation(reservation_id="r-1", order_id="o-1", items=items)
    calls = [
        lambda: shop.payments.ChargePayment(
            ChargePaymentRequest(payment=payment, request_id="charge")
        ),
        lambda: shop.payments.RefundPayment(
            RefundPaymentRequest(payment_id="p-1", request_id="refund")
        ),
        lambda: shop.inventory.ReserveStock(
            ReserveStockRequest(reservation=held, request_id="reserve")
        ),
        lambda: shop.inventory.CommitStock(CommitStockRequest(reservation_id="r-1")),
        lambda: shop.inventory.ReleaseStock(
            ReleaseStockRequest(reservation_id="r-1", request_id="release")
        ),
    ] * TIMES
    random.shuffle(calls)

    answers = [await reason(call()) for call in calls]

    assert set(answers) <= {"", *REFUSALS}

    asked = GetPaymentRequest(payment_id="p-1")
    assert (await shop.payments.GetPayment(asked)).status == REFUNDED
    shelves = (await shop.inventory.ListProducts(ListProductsRequest())).products
    assert {(each.product_id, each.available, each.reserved, each.sold) for each in shelves} == {
        ("jug", 20, 0, 0),
        ("mug", 100, 0, 0),
        ("teapot", 5, 0, 0),
    }


async def reason(call) -> str:
    """Why the call is refused; "" when it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_error(error).reason
    return ""
