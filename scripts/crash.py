"""
Kill each service with -9 at its Nth write-like system call, start it again, and audit the shop.

    scripts/crash                  a sample of the points, some two minutes
    scripts/crash --whole          every point of every story: most of an hour
    scripts/crash --story bought --victim payments --whole
    scripts/crash --whole --log matrix.jsonl --seconds 450
                                   in sittings: goes on where the log ends, for so long

After each point money and stock must be conserved, the order finished within 30 s, every event
told and every compensation done exactly once.  One line for each point that failed, then a table.
Exit 0 when all held, 1 when one did not, 2 where strace can't be had or used, 130 after Ctrl-C: a
log goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts import parts
from scripts.crashing.house import SERVICES
from scripts.crashing.log import Log
from scripts.crashing.matrix import STORIES, points, sample
from scripts.crashing.nursery import Nursery
from scripts.crashing.point import Result, run

SAMPLE = 100


async def crash(
    stories: Sequence[str],
    victims: Sequence[str],
    size: int | None,
    jobs: int,
    log: Log | None = None,
    seconds: float | None = None,
) -> list[Result]:
    """
    Go through the points, `jobs` at a time; failures are said at once.

    With a log, go on where it ends; after `seconds` no further point is begun.
    """
    log = log or Log(None)
    ends = None if seconds is None else time.monotonic() + seconds
    async with Nursery(parts.ensure("strace")) as nursery:
        if not log.points:
            everything = [point async for point in points(nursery, stories, victims)]
            log.plan(everything if size is None else sample(everything, size))
            print(f"crash: {len(log.points)} of {len(everything)} points", flush=True)
        left = iter(log.left)

        async def hand() -> None:
            while (ends is None or time.monotonic() < ends) and (point := next(left, None)):
                result = await run(nursery, point)
                log.add(result)
                for why in result.wrong:
                    print(f"FAILED  {point}: {why}", flush=True)
                if len(log.results) % 50 == 0:
                    print(f"crash: {len(log.results)} of {len(log.points)} done", flush=True)

        await asyncio.gather(*(hand() for _ in range(jobs)))
    return log.results


def table(results: Sequence[Result]) -> str:
    """What the points came to, by story and victim."""
    heads = (
        *("points", "killed", "twice", "missed", "failed"),
        *("median s", "95 % s", "most s", "recovered s"),
    )
    lines = [f"{'story':10} {'victim':14}" + "".join(f"{head:>12}" for head in heads)]
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        rows.setdefault((result.point.story, result.point.victim), []).append(result)
    rows[("all", "")] = list(results)
    for (story, victim), row in rows.items():
        seconds = sorted(result.seconds for result in row)
        cells = (
            str(len(row)),
            str(sum(result.kills > 0 for result in row)),
            str(sum(result.kills > 1 for result in row)),
            str(sum(not result.reached for result in row)),
            str(sum(bool(result.wrong) for result in row)),
            f"{statistics.median(seconds):.1f}",
            f"{seconds[len(seconds) * 95 // 100]:.1f}",
            f"{seconds[-1]:.1f}",
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
    parser.add_argument("--log", type=Path, help="a file to keep what is done, and to go on from")
    parser.add_argument("--seconds", type=float, help="begin no further point after so long")
    parser.add_argument("--jobs", type=int, default=2, help="points gone through at once")
    asked = parser.parse_args(arguments)
    size = None if asked.whole else max(1, asked.points)
    logging.basicConfig(level=logging.CRITICAL)  # who is away is said by every caller
    began = time.monotonic()
    try:
        results = asyncio.run(
            crash(
                asked.story or STORIES,
                asked.victim or SERVICES,
                size,
                max(1, asked.jobs),
                Log(asked.log),
                asked.seconds,
            )
        )
    except KeyboardInterrupt:
        return 130
    except (parts.Unavailable, RuntimeError) as why:
        print(f"crash: {' '.join(str(why).split())}", file=sys.stderr)
        return 2
    if not results:
        print("crash: there was no time for any point", file=sys.stderr)
        return 2
    failed = sum(bool(result.wrong) for result in results)
    print(table(results))
    print(f"crash: {failed or 'none'} of {len(results)} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
