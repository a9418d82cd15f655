"""
One point of the matrix: the story is told, the victim dies where it says, and all must agree.

    fresh files -> the other services -> the victim under strace -> the story -> killed, started
        again (and killed again) -> the audit, until nothing is in flight -> what it found
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from scripts.crashing import house
from scripts.crashing.nursery import Nursery
from scripts.crashing.tale import misled, tell
from scripts.crashing.victim import Kill, Victim, counts
from services.audit.auditing import audit
from services.audit.reading import Shop, read
from services.inventory.catalogue import FIRST_STOCK

# An order must be finished so long after the last kill, in seconds.
FINISHED_SECONDS = 30.0
LONGEST_SECONDS = 60.0
# Between two looks at the books.
LOOK_SECONDS = 0.1
# How often a point is gone through until it is reached.
TRIES = 4
IMPORTED = {product.product_id: product.available for product in FIRST_STOCK}


@dataclass(frozen=True, slots=True)
class Point:
    """A story, who dies in it, and where: the first time and, perhaps, once more after it."""

    story: str
    victim: str
    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        where = " then ".join(map(str, self.kills)) or "never killed"
        return f"{self.story}, {self.victim} at {where}"


@dataclass(frozen=True, slots=True)
class Result:
    """
    What became of a point.

    `seconds` is how long all of its tries took, `recovery` from the last kill to the end of all.
    """

    point: Point
    kills: int
    outcome: str
    seconds: float
    recovery: float
    wrong: Sequence[str]

    @property
    def reached(self) -> bool:
        """Whether the victim died as often as the point says."""
        return self.kills == len(self.point.kills)


class Unreached(RuntimeError):
    """The victim never made so many calls."""


async def run(nursery: Nursery, point: Point) -> Result:
    """
    Go through the point; again when it was not reached.

    How often a thread wakes another, or writes twice what once would do, is a matter of timing: a
    life may end its story a few calls short of the one that was counted.
    """
    began = time.monotonic()
    for _ in range(TRIES):
        with TemporaryDirectory(prefix="crash-") as folder:
            result = await _run(nursery, point, Path(folder), point.kills)
        if result.wrong or result.reached:
            break
    return replace(result, seconds=time.monotonic() - began)


async def measure(nursery: Nursery, point: Point) -> dict[str, int]:
    """
    The calls of the life after the point's kills, by name: how often the busiest thread made each.

    Measured twice, and the lower number counts: what only one of two lives did is timing.
    """
    lives: list[dict[str, int]] = []
    for life in await asyncio.gather(
        *(_measured(nursery, point) for _ in range(2)), return_exceptions=True
    ):
        if isinstance(life, BaseException):
            raise life
        lives.append(life)
    one, other = lives
    return {call: min(count, other[call]) for call, count in one.items() if call in other}


async def _measured(nursery: Nursery, point: Point) -> dict[str, int]:
    for _ in range(TRIES):
        with TemporaryDirectory(prefix="crash-") as folder:
            result = await _run(nursery, point, Path(folder), (*point.kills, None))
            if result.wrong:
                raise RuntimeError(f"{point}: {'; '.join(result.wrong)}")
            if result.reached:
                return counts(Path(folder) / f"{point.victim}-{len(point.kills)}.trace")
    raise Unreached(f"{point}: killed {result.kills} times, in {TRIES} tries")


async def _run(
    nursery: Nursery, point: Point, folder: Path, lives: Sequence[Kill | None]
) -> Result:
    began = time.monotonic()
    host = house.own_host()
    places = house.ports(host)
    url = house.listed(folder, places, host)
    environment = {
        "MESH_REGISTRY": url,
        "DATABASE_URL": house.database(folder, point.victim),
    }
    name = point.victim
    victim = Victim(name, host, places[name], folder, environment, nursery, lives)
    outcome, wrong = "", []
    async with house.others(folder, url, host, places, name) as books, victim:
        telling = asyncio.create_task(tell(point.story, books.orders))
        settling = asyncio.create_task(_settle(telling, books, victim))
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                wrong = await settling
        except TimeoutError:
            state = "has ended" if telling.done() else "has not ended"
            wrong = [f"not settled after {LONGEST_SECONDS:.0f} s; the story {state}"]
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
    if not telling.cancelled() and telling.exception() is None:
        outcome = telling.result()
        wrong = [*wrong, *misled(point.story, outcome)]
    now = time.monotonic()
    recovery = now - victim.killed_at if victim.kills else 0.0
    if recovery > FINISHED_SECONDS:
        wrong = [*wrong, f"all agreed only {recovery:.1f} s after the last kill"]
    return Result(point, victim.kills, outcome, now - began, recovery, wrong)


async def _settle(telling: asyncio.Task[str], books: Shop, victim: Victim) -> list[str]:
    """What is wrong at the end of it all; a kill in the middle of the audit begins it anew."""
    while not telling.done():
        await asyncio.wait([telling], timeout=LOOK_SECONDS)
        if victim.broken:
            return [victim.broken]
    try:
        telling.result()
    except grpc.aio.AioRpcError as error:
        return [f"the customer was told {error.code().name}: {error.details()}"]
    while True:
        kills = victim.kills
        try:
            report = audit(await read(books, IMPORTED))
        except grpc.aio.AioRpcError:
            report = None  # the victim is away, and on its way back
        if victim.broken:
            return [victim.broken]
        if report is not None and report.wrong:
            return [finding.text for finding in report.wrong]
        if report is not None and report.settled and kills == victim.kills:
            return []
        await asyncio.sleep(LOOK_SECONDS)
