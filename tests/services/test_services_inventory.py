"""InventoryService over a socket: the catalogue, imports, and stock that only ever moves."""

import asyncio

import pytest
from google.type.money_pb2 import Money
from shop.inventory.v1 import (
    RESERVATION_STATUS_COMMITTED,
    RESERVATION_STATUS_HELD,
    RESERVATION_STATUS_RELEASED,
    CommitStockRequest,
    GetOrderReservationRequest,
    GetProductRequest,
    GetReservationRequest,
    ListProductsRequest,
    Product,
    ReleaseStockRequest,
    Reservation,
    ReserveStockRequest,
)

from services.inventory.handlers import MOST_IMPORTED
from tests.services.shopping import refused

PRICE = Money(currency_code="USD", units=9)


@pytest.fixture
async def inventory(closed_shop):
    async with closed_shop.inventory() as stub:
        yield stub


def reserving(*items, order="o-1", name="", key="") -> ReserveStockRequest:
    return ReserveStockRequest(
        reservation=Reservation(
            reservation_id=name,
            order_id=order,
            items=[Reservation.Item(product_id=each, quantity=count) for each, count in items],
        ),
        request_id=key,
    )


async def stock(inventory, product_id) -> tuple[int, int, int]:
    product = await inventory.GetProduct(GetProductRequest(product_id=product_id))
    return product.available, product.reserved, product.sold


async def test_a_new_catalogue_has_the_first_stock_and_an_old_one_keeps_its_own(closed_shop):
    async with closed_shop.inventory() as first:
        await first.ReserveStock(reserving(("mug", 1)))
    async with closed_shop.inventory() as second:
        listed = await second.ListProducts(ListProductsRequest())

    assert [product.product_id for product in listed.products] == ["jug", "mug", "teapot"]
    assert listed.products[1].available == 99


async def test_products_are_listed_in_pages_that_miss_none(inventory):
    seen, token = [], ""
    while True:
        request = ListProductsRequest(page_size=2, page_token=token)
        listed = await inventory.ListProducts(request)
        seen += [product.product_id for product in listed.products]
        token = listed.next_page_token
        if not token:
            break

    assert seen == ["jug", "mug", "teapot"]


async def test_a_bad_page_token_is_named(inventory):
    said = await refused(inventory.ListProducts(ListProductsRequest(page_token="nonsense")))

    assert said == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", ["page_token"])


async def test_stock_is_held_then_sold(inventory):
    held = await inventory.ReserveStock(reserving(("mug", 2), ("jug", 1), ("mug", 1)))
    while_held = await stock(inventory, "mug")
    sold = await inventory.CommitStock(CommitStockRequest(reservation_id=held.reservation_id))

    assert held.status == RESERVATION_STATUS_HELD
    assert while_held == (97, 3, 0)
    assert sold.status == RESERVATION_STATUS_COMMITTED
    assert await stock(inventory, "mug") == (97, 0, 3)
    assert await stock(inventory, "jug") == (19, 0, 1)
    found = await inventory.GetOrderReservation(GetOrderReservationRequest(order_id="o-1"))
    assert found == sold


@pytest.mark.parametrize("commit", [False, True])
async def test_stock_is_given_back_whether_held_or_sold(inventory, commit):
    held = await inventory.ReserveStock(reserving(("mug", 2)))
    if commit:
        await inventory.CommitStock(CommitStockRequest(reservation_id=held.reservation_id))
    request = ReleaseStockRequest(reservation_id=held.reservation_id)

    released = await inventory.ReleaseStock(request)

    assert released.status == RESERVATION_STATUS_RELEASED
    assert await inventory.ReleaseStock(request) == released
    assert await stock(inventory, "mug") == (100, 0, 0)


async def test_a_reservation_that_comes_after_its_release_holds_nothing(inventory):
    never = await inventory.ReleaseStock(ReleaseStockRequest(reservation_id="r-1"))

    said = await refused(inventory.ReserveStock(reserving(("mug", 1), name="r-1")))

    assert never.status == RESERVATION_STATUS_RELEASED
    assert said == ("FAILED_PRECONDITION", "RESERVATION_RELEASED", [])
    assert await stock(inventory, "mug") == (100, 0, 0)


@pytest.mark.parametrize("named", [{"key": "k-1"}, {"name": "r-1"}])
async def test_the_same_reservation_counts_once(inventory, named):
    first = await inventory.ReserveStock(reserving(("mug", 2), **named))
    again = await inventory.ReserveStock(reserving(("mug", 2), **named))

    assert again == first
    assert await stock(inventory, "mug") == (98, 2, 0)


@pytest.mark.parametrize(
    ("items", "code", "reason"),
    [
        ([("mug", 101)], "FAILED_PRECONDITION", "OUT_OF_STOCK"),
        ([("mug", 60), ("mug", 60)], "FAILED_PRECONDITION", "OUT_OF_STOCK"),
        ([("mug", 1), ("jug", 21)], "FAILED_PRECONDITION", "OUT_OF_STOCK"),
        ([("mug", 1), ("none", 1)], "NOT_FOUND", "PRODUCT_NOT_FOUND"),
    ],
)
async def test_a_reservation_holds_all_or_nothing(inventory, items, code, reason):
    said = await refused(inventory.ReserveStock(reserving(*items)))

    assert said == (code, reason, [])
    assert await stock(inventory, "mug") == (100, 0, 0)


async def test_what_is_not_there_is_not_found(inventory):
    assert await refused(inventory.GetProduct(GetProductRequest(product_id="none"))) == (
        "NOT_FOUND",
        "PRODUCT_NOT_FOUND",
        [],
    )
    for call in (
        inventory.GetReservation(GetReservationRequest(reservation_id="none")),
        inventory.GetOrderReservation(GetOrderReservationRequest(order_id="none")),
        inventory.CommitStock(CommitStockRequest(reservation_id="none")),
    ):
        assert await refused(call) == ("NOT_FOUND", "RESERVATION_NOT_FOUND", [])


async def test_an_import_adds_products_and_stock(inventory):
    products = [
        Product(product_id="bowl", title="A bowl", price=PRICE, available=7, sold=99),
        Product(product_id="mug", title="A better mug", price=PRICE, available=5),
        Product(product_id="bowl", title="The bowl", price=PRICE, available=1),
    ]

    answer = await inventory.ImportProducts(iter(products))

    assert answer.imported_count == 3
    assert await stock(inventory, "bowl") == (8, 0, 0)
    mug = await inventory.GetProduct(GetProductRequest(product_id="mug"))
    assert (mug.title, mug.price, mug.available) == ("A better mug", PRICE, 105)


async def test_an_import_with_one_bad_product_imports_none(inventory):
    products = [
        Product(product_id="bowl", price=PRICE, available=7),
        Product(product_id="", price=PRICE),
    ]

    code, _, fields = await refused(inventory.ImportProducts(iter(products)))

    assert (code, fields) == ("INVALID_ARGUMENT", ["product_id"])
    missing = await refused(inventory.GetProduct(GetProductRequest(product_id="bowl")))
    assert missing[1] == "PRODUCT_NOT_FOUND"


async def test_an_import_is_bounded(inventory):
    product = Product(product_id="bowl", price=PRICE, available=1)

    async def endless():
        for _ in range(MOST_IMPORTED + 1):
            yield product

    said = await refused(inventory.ImportProducts(endless()))

    assert said == ("INVALID_ARGUMENT", "IMPORT_TOO_LARGE", [])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ReserveStockRequest(), "reservation"),
        (reserving(), "reservation.items"),
        (reserving(("mug", 0)), "reservation.items[0].quantity"),
        (reserving(("", 1)), "reservation.items[0].product_id"),
        (reserving(("mug", 1), order=""), "reservation.order_id"),
    ],
)
async def test_a_malformed_reservation_names_the_field(inventory, request_, field):
    code, _, fields = await refused(inventory.ReserveStock(request_))

    assert (code, fields) == ("INVALID_ARGUMENT", [field])


async def test_stock_that_nobody_bought_in_time_is_on_the_shelf_again(closed_shop):
    """Whoever held it may be gone for good; a commit that comes too late is refused."""
    async with closed_shop.inventory() as inventory:
        for name in ("forgotten", "bought"):
            await inventory.ReserveStock(reserving(("mug", 3), name=name))
        await inventory.CommitStock(CommitStockRequest(reservation_id="bought"))
        assert await stock(inventory, "mug") == (94, 3, 3)
    closed_shop.hold = 0.01
    async with closed_shop.inventory() as inventory, closed_shop.inventory():
        while (await stock(inventory, "mug"))[1]:
            await asyncio.sleep(0.01)
        found = await stock(inventory, "mug")
        late = inventory.CommitStock(CommitStockRequest(reservation_id="forgotten"))

        assert (await refused(late))[:2] == ("FAILED_PRECONDITION", "RESERVATION_RELEASED")

    assert found == (97, 0, 3)
    told = await closed_shop.rows("inventory", "select event_type, aggregate_id from outbox")
    assert told.count(("StockReleased", "forgotten")) == 1
