"""The order's life as a table: every status against every step, and nothing else."""

from dataclasses import replace

import pytest

from services.orders.domain import (
    NEXT,
    IllegalStep,
    InvalidRevision,
    Item,
    Order,
    Reason,
    Status,
)
from services.orders.money import Money, total
from services.orders.record import read, write

MUG = Money("USD", 14, 500_000_000)
ORDER = Order("o-1", "c-1", (Item("mug", 2), Item("jug", 1), Item("mug", 1)), created=1, updated=1)
PRICES = {"mug": MUG, "jug": Money("USD", 27, 500_000_000)}

STEPS = {
    Status.RESERVED: lambda order: order.reserved(PRICES, 2),
    Status.PAID: lambda order: order.paid(2),
    Status.CONFIRMED: lambda order: order.confirmed(2),
    Status.CANCELLED: lambda order: order.cancelled(Reason.TIMED_OUT, 2),
}


def order_in(status: Status) -> Order:
    return replace(ORDER, status=status)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("to", STEPS)
def test_an_order_takes_the_steps_of_the_diagram_and_no_other(status, to):
    if to in NEXT[status]:
        assert STEPS[to](order_in(status)).status is to
    else:
        with pytest.raises(IllegalStep, match=f"is {status.value}, not {to.value} next"):
            STEPS[to](order_in(status))


def test_the_diagram_in_the_docstring_is_the_table():
    arrows = {(one, other.value) for one in Status for other in NEXT[one]}

    assert arrows == {
        (Status.PENDING, "RESERVED"),
        (Status.RESERVED, "PAID"),
        (Status.PAID, "CONFIRMED"),
        (Status.PENDING, "CANCELLED"),
        (Status.RESERVED, "CANCELLED"),
        (Status.PAID, "CANCELLED"),
    }


def test_reserving_sets_every_price_and_the_total():
    order = ORDER.reserved(PRICES, 7)

    assert [item.unit_price for item in order.items] == [MUG, PRICES["jug"], MUG]
    assert order.total == Money("USD", 71)
    assert (order.created, order.updated) == (1, 7)


def test_an_order_is_taken_without_what_only_the_shop_may_say():
    taken = order_in(Status.CONFIRMED).taken(9)

    assert taken.status is Status.PENDING
    assert taken.total is None
    assert (taken.created, taken.updated) == (9, 9)


def test_a_cancelled_order_says_why():
    assert ORDER.cancelled(Reason.OUT_OF_STOCK, 2).cancel_reason is Reason.OUT_OF_STOCK


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"status": "CONFIRMED"}, "update_mask"),
        ({"items": ""}, "update_mask"),
        ({"total": ""}, "update_mask"),
        ({"note": "x" * 2001}, "order.note"),
        ({"shipping_address": "x" * 2001}, "order.shipping_address"),
    ],
)
def test_a_revision_of_what_is_not_the_customers_names_the_field(changes, field):
    with pytest.raises(InvalidRevision) as refused:
        ORDER.revised(changes, 2)

    assert refused.value.fields[0][0] == field


@pytest.mark.parametrize("status", Status)
def test_a_note_may_be_revised_in_any_status(status):
    order = order_in(status).revised({"note": "ring twice"}, 5)

    assert (order.note, order.shipping_address, order.updated) == ("ring twice", "", 5)


def test_a_revision_that_changes_nothing_is_no_change():
    assert ORDER.revised({"note": ORDER.note}, 5) is ORDER


def test_money_is_added_and_multiplied_in_whole_numbers():
    assert MUG.times(3) == Money("USD", 43, 500_000_000)
    assert total([MUG, Money("USD", 0, 500_000_001)]) == Money("USD", 15, 1)


def test_amounts_in_two_currencies_have_no_sum():
    with pytest.raises(ValueError, match="too many values"):
        total([MUG, Money("EUR", 1)])


@pytest.mark.parametrize(
    "order", [ORDER, ORDER.reserved(PRICES, 2), STEPS[Status.CANCELLED](ORDER)]
)
def test_an_order_is_read_back_as_it_was_written(order):
    assert read(write(order)) == order
