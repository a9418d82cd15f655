"""The InventoryService of the contract on top of the handlers: translation, and nothing else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2
from shop.inventory.v1 import (
    CommitStockRequest,
    GetOrderReservationRequest,
    GetProductRequest,
    GetReservationRequest,
    ImportProductsResponse,
    InventoryServiceServicer,
    ListProductsRequest,
    ListProductsResponse,
    Product,
    ReleaseStockRequest,
    Reservation,
    ReservationStatus,
    ReserveStockRequest,
)

from mesh.errors import Code
from mesh.server.idempotency import in_one_transaction, keep
from mesh.store import Transaction
from services.access import is_theirs, made_for
from services.answering import Table, answering
from services.inventory import domain
from services.inventory.handlers import MOST_IMPORTED, Inventory
from services.paging import page
from services.tracing import traceparent

ERRORS: Table = {
    domain.ProductNotFound: (Code.NOT_FOUND, "PRODUCT_NOT_FOUND"),
    domain.OutOfStock: (Code.FAILED_PRECONDITION, "OUT_OF_STOCK"),
    domain.ReservationReleased: (Code.FAILED_PRECONDITION, "RESERVATION_RELEASED"),
    domain.ReservationExists: (Code.ALREADY_EXISTS, "RESERVATION_EXISTS"),
    domain.ReservationNotFound: (Code.NOT_FOUND, "RESERVATION_NOT_FOUND"),
    domain.ImportTooLarge: (Code.INVALID_ARGUMENT, "IMPORT_TOO_LARGE"),
}


class InventoryServicer(InventoryServiceServicer):
    """Answers InventoryService from *inventory*."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def ListProducts(
        self, request: ListProductsRequest, context: Any
    ) -> ListProductsResponse:
        asked = page(request.page_size, request.page_token, key=(str,))
        after = str(asked.after[0]) if asked.after else ""
        found = await self._inventory.products(after, asked.size + 1)
        shown = found[: asked.size]
        more = len(found) > asked.size
        return ListProductsResponse(
            products=[product_message(product) for product in shown],
            next_page_token=asked.next_token((shown[-1].product_id,)) if more else "",
        )

    async def GetProduct(self, request: GetProductRequest, context: Any) -> Product:
        with answering(ERRORS):
            return product_message(await self._inventory.product(request.product_id))

    @in_one_transaction
    async def ReserveStock(self, request: ReserveStockRequest, context: Any) -> Reservation:
        asked = request.reservation
        wanted = domain.Reservation(
            reservation_id=asked.reservation_id or str(uuid4()),
            order_id=asked.order_id,
            items=tuple(domain.Item(item.product_id, item.quantity) for item in asked.items),
            status=domain.Status.HELD,
            created=0,
            owner=made_for(context),
        )
        with answering(ERRORS):
            return to_message(await self._inventory.reserve(wanted, _keep, traceparent()))

    @in_one_transaction
    async def ReleaseStock(self, request: ReleaseStockRequest, context: Any) -> Reservation:
        with answering(ERRORS):
            return to_message(
                await self._inventory.release(request.reservation_id, _keep, traceparent())
            )

    async def CommitStock(self, request: CommitStockRequest, context: Any) -> Reservation:
        with answering(ERRORS):
            return to_message(await self._inventory.commit(request.reservation_id, traceparent()))

    async def GetReservation(self, request: GetReservationRequest, context: Any) -> Reservation:
        with answering(ERRORS):
            return to_message(_theirs(await self._inventory.reservation(request.reservation_id)))

    async def GetOrderReservation(
        self, request: GetOrderReservationRequest, context: Any
    ) -> Reservation:
        with answering(ERRORS):
            return to_message(_theirs(await self._inventory.of_order(request.order_id)))

    async def ImportProducts(self, request_iterator: Any, context: Any) -> ImportProductsResponse:
        products: list[domain.Product] = []
        with answering(ERRORS):
            async for message in request_iterator:
                products.append(_product(message))
                domain.bounded(products, MOST_IMPORTED)
            return ImportProductsResponse(imported_count=await self._inventory.take(products))


def _theirs(reservation: domain.Reservation) -> domain.Reservation:
    """The reservation, unless it is another customer's: for who asks there is none then."""
    if not is_theirs(reservation.owner):
        raise domain.ReservationNotFound("there is no such reservation")
    return reservation


async def _keep(tx: Transaction, reservation: domain.Reservation) -> None:
    await keep(tx, to_message(reservation))


def product_message(product: domain.Product) -> Product:
    price = product.price
    return Product(
        product_id=product.product_id,
        title=product.title,
        price=money_pb2.Money(currency_code=price.currency, units=price.units, nanos=price.nanos),
        available=product.available,
        reserved=product.reserved,
        sold=product.sold,
    )


def to_message(reservation: domain.Reservation) -> Reservation:
    created = Timestamp()
    created.FromNanoseconds(reservation.created)
    return Reservation(
        reservation_id=reservation.reservation_id,
        order_id=reservation.order_id,
        items=[
            Reservation.Item(product_id=item.product_id, quantity=item.quantity)
            for item in reservation.items
        ],
        status=ReservationStatus.Value(f"RESERVATION_STATUS_{reservation.status.value}"),
        create_time=created,
    )


def _product(message: Product) -> domain.Product:
    price = message.price
    return domain.Product(
        product_id=message.product_id,
        title=message.title,
        price=domain.Money(price.currency_code, price.units, price.nanos),
        available=message.available,
    )
