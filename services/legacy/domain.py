"""
Articles and what customers say of them, as the old shop thinks of both.

It knows prices in cents and one stock that is counted down by hand; it has reviews, which nobody
has moved to the new shop yet.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_TEXT = 2000
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Article:
    """Something it sells; `cents` of `currency` each."""

    sku: str
    name: str
    cents: int
    stock: int
    currency: str = "USD"
    shelf: str = "A"


@dataclass(frozen=True, slots=True)
class Review:
    """One customer's word on an article."""

    sku: str
    stars: int
    text: str
    author: str


class NotUnderstood(Exception):
    """What was sent makes no sense; the message says what."""


class NotTheirs(Exception):
    """It speaks in another customer's name; the message says where."""


def review(sku: str, found: object, own: str | None = None) -> Review:
    """
    A review from what a customer has sent, or NotUnderstood.

    Where it is known who they are, it is by `own` name, and NotTheirs by any other.
    """
    if not isinstance(found, dict):
        raise NotUnderstood("a review is an object")
    stars, text, author = (found.get(name) for name in ("stars", "text", "author"))
    if isinstance(stars, bool) or not isinstance(stars, int) or not 1 <= stars <= 5:
        raise NotUnderstood("stars: a whole number from 1 to 5")
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_TEXT:
        raise NotUnderstood(f"text: 1 to {LONGEST_TEXT} characters")
    if author is not None and not isinstance(author, str):
        raise NotUnderstood("author: a text")
    if own is not None and author not in (None, "", own):
        raise NotTheirs("author: is another customer")
    return Review(sku, stars, text, (own or author or "somebody")[:LONGEST_NAME])


# What it has always sold, as it was copied into the new shop.
FIRST_ARTICLES = (
    Article("apron", "Linen apron", 3450, 1_000, shelf="C"),
    Article("candle", "Beeswax candle", 990, 5_000),
    Article("clock", "Wall clock", 8900, 300, shelf="B"),
    Article("jug", "Stoneware jug", 2750, 1_200),
    Article("kettle", "Enamel kettle", 4900, 800, shelf="B"),
    Article("lamp", "Reading lamp", 11995, 250, shelf="B"),
    Article("mug", "Stoneware mug", 1450, 10_000),
    Article("notebook", "Dotted notebook", 725, 20_000, shelf="C"),
    Article("plate", "Dinner plate", 1800, 6_000),
    Article("spoon", "Olive wood spoon", 675, 15_000),
    Article("teapot", "Cast iron teapot", 6400, 400),
    Article("towel", "Waffle towel", 2240, 2_000, shelf="C"),
)
