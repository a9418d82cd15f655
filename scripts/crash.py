"""
Kill each service with -9 at its Nth write-like system call, start it again, and audit the shop.

    scripts/crash                  a sample of the points, some two minutes
    scripts/crash --whole          every point of every story: an hour or two
    scripts/crash --story bought --victim payments --whole

After each point money and stock must be conserved, the order finished within 30 s, every event
told and every compensation done exactly once.  One line for each point that failed, then a table.
Exit 0 when all held, 1 when one did not, 2 where strace can't be had or used.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Sequence

from scripts import parts
from scripts.crashing.house import SERVICES
from scripts.crashing.matrix import STORIES, points, sample
from scripts.crashing.point import Point, Result, run

SAMPLE = 40


async def crash(
    stories: Sequence[str], victims: Sequence[str], size: int | None, jobs: int
) -> list[Result]:
    """Go through the points, `jobs` at a time; failures are said at once."""
    strace = parts.ensure("strace")
    everything = [point async for point in points(strace, stories, victims)]
    chosen = everything if size is None else sample(everything, size)
    print(f"crash: {len(chosen)} of {len(everything)} points", flush=True)
    gate, results = asyncio.Semaphore(jobs), list[Result]()

    async def one(point: Point) -> None:
        async with gate:
            result = await run(strace, point)
        results.append(result)
        for why in result.wrong:
            print(f"FAILED  {point}: {why}", flush=True)
        if len(results) % 50 == 0:
            print(f"crash: {len(results)} of {len(chosen)} done", flush=True)

    await asyncio.gather(*(one(point) for point in chosen))
    return results


def table(results: Sequence[Result]) -> str:
    """What the points came to, by story and victim."""
    heads = ("points", "killed", "twice", "failed", "median s", "most s", "recovered s")
    lines = [f"{'story':10} {'victim':14}" + "".join(f"{head:>12}" for head in heads)]
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        rows.setdefault((result.point.story, result.point.victim), []).append(result)
    rows[("all", "")] = list(results)
    for (story, victim), row in rows.items():
        cells = (
            str(len(row)),
            str(sum(result.kills > 0 for result in row)),
            str(sum(result.kills > 1 for result in row)),
            str(sum(bool(result.wrong) for result in row)),
            f"{statistics.median(result.seconds for result in row):.1f}",
            f"{max(result.seconds for result in row):.1f}",
            f"{max(result.recovery for result in row):.1f}",
        )
        lines.append(f"{story:10} {victim:14}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/crash", description="Survives kill -9 anywhere?")
    parser.add_argument("--whole", action="store_true", help="every point, not a sample")
    parser.add_argument("--points", type=int, default=SAMPLE, help="how many the sample has")
    parser.add_argument("--story", choices=STORIES, action="append", help="only this one")
    parser.add_argument("--victim", choices=SERVICES, action="append", help="only this one")
    parser.add_argument("--jobs", type=int, default=2, help="points gone through at once")
    asked = parser.parse_args(arguments)
    size = None if asked.whole else max(1, asked.points)
    logging.basicConfig(level=logging.CRITICAL)  # who is away is said by every caller
    began = time.monotonic()
    try:
        results = asyncio.run(
            crash(asked.story or STORIES, asked.victim or SERVICES, size, max(1, asked.jobs))
        )
    except (parts.Unavailable, RuntimeError) as why:
        print(f"crash: {' '.join(str(why).split())}", file=sys.stderr)
        return 2
    failed = sum(bool(result.wrong) for result in results)
    print(table(results))
    print(f"crash: {failed or 'none'} of {len(results)} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
