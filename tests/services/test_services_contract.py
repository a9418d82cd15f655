"""The contract as clients rely on it: routes, idempotency, messages, and words on everything."""

from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions
from shop.orders.v1 import CreateOrderRequest, Order, UpdateOrderRequest

from mesh.server.validate import checker

SET = Path("protos/shop.binpb")

ROUTES = """
OrderService CreateOrder         POST  /v1/orders                            order
OrderService GetOrder            GET   /v1/orders/{order_id}                      -
OrderService ListOrders          GET   /v1/orders                                 -
OrderService UpdateOrder         PATCH /v1/orders/{order.order_id}                order
OrderService CancelOrder         POST  /v1/orders/{order_id}:cancel               *
OrderService WatchOrder          GET   /v1/orders/{order_id}:watch                -
PaymentService ChargePayment       POST  /v1/payments                               payment
PaymentService GetPayment          GET   /v1/payments/{payment_id}                  -
PaymentService GetOrderPayment     GET   /v1/orders/{order_id}/payment              -
PaymentService RefundPayment       POST  /v1/payments/{payment_id}:refund           *
InventoryService ListProducts        GET   /v1/products                               -
InventoryService GetProduct          GET   /v1/products/{product_id}                  -
InventoryService ReserveStock        POST  /v1/reservations                           reservation
InventoryService ReleaseStock        POST  /v1/reservations/{reservation_id}:release  *
InventoryService CommitStock         POST  /v1/reservations/{reservation_id}:commit   *
InventoryService GetReservation      GET   /v1/reservations/{reservation_id}          -
InventoryService GetOrderReservation GET   /v1/orders/{order_id}/reservation          -
InventoryService ImportProducts      POST  /v1/products:import                        *
NotificationService ListNotifications   GET   /v1/notifications                          -
NotificationService Subscribe           GET   /v1/notifications:subscribe                -
"""

MESSAGES = {
    "shop.orders.v1.Order": "order_id customer_id items payment_method note shipping_address"
    " status cancel_reason total create_time update_time",
    "shop.orders.v1.Order.Item": "product_id quantity unit_price",
    "shop.payments.v1.Payment": "payment_id order_id amount payment_method status create_time",
    "shop.inventory.v1.Reservation": "reservation_id order_id items status create_time",
    "shop.inventory.v1.Reservation.Item": "product_id quantity",
    "shop.inventory.v1.Product": "product_id title price available reserved sold",
    "shop.notifications.v1.Notification": "notification_id customer_id order_id kind text"
    " create_time",
}

KEYED = {"CreateOrder", "ChargePayment", "RefundPayment", "ReserveStock", "ReleaseStock"}
IDEMPOTENT = {
    "UpdateOrder",
    "CancelOrder",
    "CommitStock",
    "ReplaySaga",
    "RedriveDeadLetter",
    "DropDeadLetter",
}
UPLOADS = {"ImportProducts"}


@pytest.fixture(scope="module")
def files() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """The files of the committed descriptor set that are ours, by name."""
    found = FileDescriptorSet.FromString(SET.read_bytes())
    ours = ("shop/", "proxyless/")
    return {file.name: file for file in found.file if file.name.startswith(ours)}


def methods(files):
    return [
        (service.name, method)
        for file in files.values()
        for service in file.service
        for method in service.method
    ]


def test_every_rpc_has_its_route_and_no_other(files):
    declared = set()
    for service, method in methods(files):
        rule = method.options.Extensions[annotations_pb2.http]
        pattern = rule.WhichOneof("pattern")
        if pattern is not None:
            route = (pattern.upper(), getattr(rule, pattern), rule.body or "-")
            declared.add((service, method.name, *route))

    assert declared == {tuple(line.split()) for line in ROUTES.strip().splitlines()}


def test_the_contract_says_what_may_be_asked_twice(files):
    levels = {method.name: method.options.idempotency_level for _, method in methods(files)}
    unknown = {name for name, level in levels.items() if level == MethodOptions.IDEMPOTENCY_UNKNOWN}
    idempotent = {name for name, level in levels.items() if level == MethodOptions.IDEMPOTENT}

    assert unknown == KEYED | UPLOADS
    assert idempotent == IDEMPOTENT


def test_whoever_has_no_level_has_a_key(files):
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(SET.read_bytes()).file:
        pool.Add(file)
    for _, method in methods(files):
        request = pool.FindMessageTypeByName(method.input_type.lstrip("."))

        assert ("request_id" in request.fields_by_name) == (method.name in KEYED), method.name


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_have_the_fields_that_clients_know(name):
    message = descriptor_pool.Default().FindMessageTypeByName(name)

    assert [field.name for field in message.fields] == MESSAGES[name].split()


def test_everything_in_the_contract_is_explained(files):
    silent = []
    for file in files.values():
        said = {
            tuple(location.path)
            for location in file.source_code_info.location
            if location.leading_comments.strip()
        }
        silent += [f"{file.name} {path}" for path in things(file) if path not in said]

    assert silent == []


def things(file):
    """The paths of all services, rpcs, messages, fields, enums and values of a file."""
    for number, service in enumerate(file.service):
        yield (6, number)
        yield from ((6, number, 2, index) for index in range(len(service.method)))
    for number, message in enumerate(file.message_type):
        yield from within((4, number), message)
    for number, enum in enumerate(file.enum_type):
        yield (5, number)
        yield from ((5, number, 2, index) for index in range(len(enum.value)))


def within(path, message):
    yield path
    yield from ((*path, 2, index) for index in range(len(message.field)))
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:  # what the compiler makes of a map, not what we wrote
            yield from within((*path, 3, index), nested)


def test_the_set_holds_all_that_it_imports(files):
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(SET.read_bytes()).file:
        pool.Add(file)

    order = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.orders.v1.Order"))
    assert order(order_id="o-1").order_id == "o-1"
    assert pool.FindMessageTypeByName("google.rpc.ErrorInfo")


@pytest.mark.parametrize(
    "order",
    [
        Order(customer_id="c", items=[Order.Item(product_id="no such product", quantity=1)]),
        Order(customer_id="c", items=[Order.Item(product_id="p", quantity=1)], cancel_reason="x"),
        Order(customer_id="c", items=[Order.Item(product_id="p", quantity=1)], status=77),
        Order(customer_id="c", items=[Order.Item(product_id="p", quantity=10**6)]),
        Order(customer_id="c", items=[Order.Item(product_id="p", quantity=1)] * 2),
    ],
    ids=["unknown product", "reason", "status", "many", "twice"],
)
def test_validation_refuses_no_order_that_may_only_be_cancelled(order):
    checker()(CreateOrderRequest(order=order))


def test_an_update_needs_none_of_what_an_order_needs():
    checker()(UpdateOrderRequest(order=Order(order_id="o-1", note="x")))
