"""What the shop sells on its first day; an import adds to it."""

from __future__ import annotations

from services.inventory.domain import Money, Product


def _dollars(units: int, cents: int = 0) -> Money:
    return Money("USD", units, cents * 10_000_000)


FIRST_STOCK = (
    Product("apron", "Linen apron", _dollars(34, 50), available=1_000),
    Product("candle", "Beeswax candle", _dollars(9, 90), available=5_000),
    Product("clock", "Wall clock", _dollars(89), available=300),
    Product("jug", "Stoneware jug", _dollars(27, 50), available=1_200),
    Product("kettle", "Enamel kettle", _dollars(49), available=800),
    Product("lamp", "Reading lamp", _dollars(119, 95), available=250),
    Product("mug", "Stoneware mug", _dollars(14, 50), available=10_000),
    Product("notebook", "Dotted notebook", _dollars(7, 25), available=20_000),
    Product("plate", "Dinner plate", _dollars(18), available=6_000),
    Product("spoon", "Olive wood spoon", _dollars(6, 75), available=15_000),
    Product("teapot", "Cast iron teapot", _dollars(64), available=400),
    Product("towel", "Waffle towel", _dollars(22, 40), available=2_000),
)
