"""Reserving, committing and releasing as tables, and the sum that they never change."""

from dataclasses import replace
from random import Random

import pytest

from services.inventory.domain import (
    Change,
    Fact,
    Item,
    Move,
    OutOfStock,
    ProductNotFound,
    Reservation,
    ReservationExists,
    ReservationNotFound,
    ReservationReleased,
    Status,
    commit,
    release,
    reserve,
)

HELD = Reservation("r-1", "o-1", (Item("mug", 2), Item("jug", 1), Item("mug", 1)), Status.HELD, 1)
COMMITTED = replace(HELD, status=Status.COMMITTED)
RELEASED = replace(HELD, status=Status.RELEASED)
NEVER = Reservation("r-1", "", (), Status.RELEASED, 9)
STOCK = {"mug": 3, "jug": 1}


def test_a_reservation_holds_the_sum_of_its_items():
    moves = (Move("jug", available=-1, reserved=1), Move("mug", available=-3, reserved=3))

    assert reserve(HELD, None, STOCK) == Change(HELD, moves, Fact.RESERVED, changed=True)


@pytest.mark.parametrize("known", [HELD, COMMITTED])
def test_a_reservation_counts_once(known):
    assert reserve(replace(HELD, created=9), known, {}) == Change(known)


@pytest.mark.parametrize(
    ("known", "stock", "error"),
    [
        (None, {"mug": 3}, ProductNotFound),
        (None, {"jug": 0}, ProductNotFound),
        (None, {"mug": 2, "jug": 1}, OutOfStock),
        (RELEASED, STOCK, ReservationReleased),
        (NEVER, STOCK, ReservationReleased),
        (replace(HELD, order_id="o-2"), STOCK, ReservationExists),
        (replace(HELD, items=HELD.items[:1]), STOCK, ReservationExists),
    ],
)
def test_a_reservation_that_cannot_be_is_refused(known, stock, error):
    with pytest.raises(error):
        reserve(HELD, known, stock)


def test_committing_sells_what_is_held_and_only_once():
    moves = (Move("jug", reserved=-1, sold=1), Move("mug", reserved=-3, sold=3))

    assert commit(HELD, "r-1") == Change(COMMITTED, moves, changed=True)
    assert commit(COMMITTED, "r-1") == Change(COMMITTED)


@pytest.mark.parametrize(
    ("known", "error"), [(RELEASED, ReservationReleased), (None, ReservationNotFound)]
)
def test_committing_what_is_not_held_is_refused(known, error):
    with pytest.raises(error, match="r-1"):
        commit(known, "r-1")


@pytest.mark.parametrize(
    ("known", "change"),
    [
        (
            HELD,
            Change(
                RELEASED,
                (Move("jug", available=1, reserved=-1), Move("mug", available=3, reserved=-3)),
                Fact.RELEASED,
                changed=True,
            ),
        ),
        (
            COMMITTED,
            Change(
                RELEASED,
                (Move("jug", available=1, sold=-1), Move("mug", available=3, sold=-3)),
                Fact.RELEASED,
                changed=True,
            ),
        ),
        (RELEASED, Change(RELEASED)),
        (None, Change(NEVER, changed=True)),
    ],
)
def test_releasing_gives_back_what_is_held_or_sold(known, change):
    assert release(known, "r-1", 9) == change


def test_stock_only_moves_whatever_is_asked_in_whatever_order():
    random = Random(7)
    stock = {"mug": [20, 0, 0], "jug": [20, 0, 0]}
    known: dict[str, Reservation] = {}
    for _ in range(500):
        name = f"r-{random.randrange(20)}"
        items = tuple(Item(each, random.randint(1, 5)) for each in random.sample(sorted(stock), 2))
        wanted = Reservation(name, "o-1", items, Status.HELD, 0)
        available = {each: numbers[0] for each, numbers in stock.items()}
        try:
            change = random.choice(
                [
                    lambda: reserve(wanted, known.get(name), available),  # noqa: B023
                    lambda: commit(known.get(name), name),  # noqa: B023
                    lambda: release(known.get(name), name, 0),  # noqa: B023
                ]
            )()
        except (OutOfStock, ReservationExists, ReservationNotFound, ReservationReleased):
            continue
        known[name] = change.reservation
        for move in change.moves:
            added = (move.available, move.reserved, move.sold)
            stock[move.product_id] = [
                one + more for one, more in zip(stock[move.product_id], added, strict=True)
            ]

        assert all(sum(numbers) == 20 and min(numbers) >= 0 for numbers in stock.values())
