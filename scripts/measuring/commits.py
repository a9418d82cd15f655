"""
What a group commit is worth where nothing but commits costs: run as a process of its own.

    python -m scripts.measuring.commits URL SECONDS AT_ONCE

Transactions of one insert, and sagas of three steps that ask nobody outside, one after another and
so many at once; prints their rates (a second), and the commits that each took, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from mesh.saga import Context, Saga, SagaRunner, Step
from mesh.store import Database, Transaction, connect
from mesh.store.migrate import COUNTED

Rates = dict[str, float]


async def transactions(database: Database, seconds: float, at_once: int) -> Rates:
    """How many transactions a second, and how many commits each."""
    await database.migrate("bench", [f"create table note (place {COUNTED}, text text not null)"])

    async def insert(tx: Transaction) -> None:
        tx.post("insert into note (text) values ($1)", "x" * 100)

    return await _measure(database, seconds, at_once, lambda: database.transaction(insert))


async def sagas(database: Database, seconds: float, at_once: int) -> Rates:
    """How many sagas a second, each seen through to its end, and how many commits each."""
    ends: dict[str, asyncio.Event] = {}
    loop = asyncio.get_running_loop()

    async def step(context: Context) -> None:
        """Asks nobody."""

    async def ended(tx: Transaction, context: Context, outcome: str, reason: str) -> None:
        """On the database's thread, some moments before the commit."""
        if done := ends.get(context.id):
            loop.call_soon_threadsafe(done.set)

    saga = Saga("bench", *(Step(name, do=step) for name in ("one", "two", "three")), ended=ended)
    async with SagaRunner(database, [saga], limit=at_once) as runner:

        async def one() -> None:
            name = str(uuid4())
            done = ends[name] = asyncio.Event()
            await database.transaction(lambda tx: runner.start(tx, "bench", name))
            await done.wait()
            del ends[name]

        return await _measure(database, seconds, at_once, one)


async def _measure(
    database: Database, seconds: float, at_once: int, once: Callable[[], Awaitable[object]]
) -> Rates:
    done, commits = 0, database.commits
    began = time.monotonic()

    async def hand() -> None:
        nonlocal done
        while time.monotonic() - began < seconds:
            await once()
            done += 1

    await asyncio.gather(*(hand() for _ in range(at_once)))
    took = time.monotonic() - began
    return {"rate": done / took, "commits": (database.commits - commits) / done}


async def main(url: str, seconds: float, at_once: int) -> dict[str, dict[str, Rates]]:
    async with connect(url) as database:
        found: dict[str, dict[str, Rates]] = {}
        for work in (transactions, sagas):
            await work(database, seconds / 4, at_once)
            found[work.__name__] = {
                "one_by_one": await work(database, seconds, 1),
                "at_once": await work(database, seconds, at_once),
            }
        return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))))
