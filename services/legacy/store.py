"""Articles and reviews in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.store import Row, Transaction
from services.legacy.domain import Article, Review

MOST_REVIEWS = 100


async def load(tx: Transaction, sku: str) -> Article | None:
    row = await tx.fetchrow("select * from articles where sku = $1", sku)
    return None if row is None else _article(row)


async def listed(tx: Transaction, after: str, limit: int) -> list[Article]:
    """Articles by sku, those after *after*."""
    rows = await tx.fetch(
        "select * from articles where sku > $1 order by sku limit $2", after, limit
    )
    return [_article(row) for row in rows]


async def stock_once(tx: Transaction, articles: Iterable[Article]) -> None:
    """Put *articles* where there are none yet."""
    if await tx.fetchrow("select 1 as one from articles limit 1") is not None:
        return
    for each in articles:
        await tx.execute(
            """
            insert into articles (sku, name, cents, currency, stock, shelf)
            values ($1, $2, $3, $4, $5, $6)
            """,
            each.sku,
            each.name,
            each.cents,
            each.currency,
            each.stock,
            each.shelf,
        )


async def keep(tx: Transaction, review_id: str, review: Review, written: int) -> None:
    """Keep a review, *written* in nanoseconds since 1970."""
    await tx.execute(
        """
        insert into reviews (review_id, sku, stars, text, author, written)
        values ($1, $2, $3, $4, $5, $6)
        """,
        review_id,
        review.sku,
        review.stars,
        review.text,
        review.author,
        written,
    )


async def reviews(tx: Transaction, sku: str) -> list[Review]:
    """The newest reviews of an article."""
    rows = await tx.fetch(
        "select * from reviews where sku = $1 order by written desc limit $2", sku, MOST_REVIEWS
    )
    return [Review(row["sku"], row["stars"], row["text"], row["author"]) for row in rows]


def _article(row: Row) -> Article:
    return Article(
        row["sku"], row["name"], row["cents"], row["stock"], row["currency"], row["shelf"]
    )
