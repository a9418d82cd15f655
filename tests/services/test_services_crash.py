"""A sample of the crash matrix: killed with -9 at a write, started again, and audited."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts import crash as script
from scripts.crashing.house import SERVICES
from scripts.crashing.log import Log
from scripts.crashing.matrix import STORIES, few, sample, second_life
from scripts.crashing.nursery import Nursery
from scripts.crashing.point import Point, Result, Unreached, run
from scripts.crashing.tale import misled
from scripts.crashing.victim import Kill, counts
from scripts.environment import ROOT

SIZE = 100
# Where the tests run in the background, what they start would not hear the signal.
INTERRUPTIBLE = """
import signal, sys
from scripts.crash import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


def table_of(*kills: tuple[str, int]) -> tuple[Kill, ...]:
    return tuple(Kill(call, nth) for call, nth in kills)


def test_the_calls_of_the_busiest_thread_are_counted(tmp_path):
    trace = tmp_path / "life.trace"
    trace.write_text(
        '7  pwrite64(5, "x", 24, 0) = 24\n'
        '8  write(1, "listening", 9) = 9\n'
        '7  pwrite64(5, "y", 24, 24) = 24\n'
        '8  pwrite64(5, "z", 24, 48 <unfinished ...>\n'
        "7  fdatasync(5) = 0\n"
        "8  <... pwrite64 resumed>) = 24\n"
        "8  +++ killed by SIGKILL +++\n"
    )

    assert counts(trace) == {"write": 1, "pwrite64": 2, "fdatasync": 1}


def test_a_sample_is_spread_over_all_points():
    everything = [Point("bought", "orders", (Kill("write", nth),)) for nth in range(1, 101)]

    assert [point.kills[0].nth for point in sample(everything, 4)] == [1, 26, 51, 76]
    assert sample(everything, 500) == everything


async def test_who_makes_fewer_calls_than_were_counted_dies_earlier_the_first_time():
    asked = []

    async def measured(point: Point) -> dict[str, int]:
        asked.append(point.kills[0].nth)
        if asked[-1] > 60:
            raise Unreached("it made 60")
        return {"write": 3}

    assert await second_life(measured, "bought", "payments", 100) == (
        Kill("pwrite64", 55),
        {"write": 3},
    )
    assert asked == [75, 65, 55]
    with pytest.raises(Unreached, match="it made 60"):
        await second_life(measured, "bought", "payments", 200)


def test_the_table_says_what_was_killed_and_what_failed():
    once = Point("bought", "orders", table_of(("write", 1)))
    twice = Point("bought", "payments", table_of(("write", 1), ("sendto", 2)))
    results = [
        Result(once, 1, "CONFIRMED", 1.0, 0.5, ()),
        Result(twice, 2, "CONFIRMED", 3.0, 2.5, ("money is gone",)),
        Result(twice, 1, "CONFIRMED", 4.0, 0.0, ()),
    ]

    last = script.table(results).splitlines()[-1].split()

    assert last == ["all", "3", "3", "1", "1", "1", "3.0", "4.0", "4.0", "2.5"]


def test_a_matrix_goes_on_where_its_log_ends(tmp_path):
    points = [Point("bought", "orders", table_of(("write", nth))) for nth in range(1, 6)]
    first = Log(tmp_path / "log")
    first.plan(points)
    done = [Result(point, 1, "CONFIRMED", 1.5, 0.25, ["odd"]) for point in first.left[:2]]
    for result in done:
        first.add(result)

    second = Log(tmp_path / "log")

    assert second.results == done
    assert sorted(map(str, second.left)) == sorted(
        set(map(str, points)) - {str(r.point) for r in done}
    )
    assert second.left == first.left
    with pytest.raises(RuntimeError, match="no log of a matrix"):
        Log(Path(__file__))


def test_an_order_ends_as_its_story_says():
    assert misled("bought", "CONFIRMED") == []
    assert misled("bought", "TIMED_OUT") == ["the order ended as TIMED_OUT"]
    assert misled("declined", "CARD_DECLINED") == []
    assert misled("cancelled", "CONFIRMED") == misled("cancelled", "CANCELLED_BY_CUSTOMER") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_service_killed_at_any_write_leaves_a_shop_that_agrees(strace):
    """Some of `scripts/crash --whole`, which is every write of every story."""
    with quiet():
        results = await script.crash(STORIES, SERVICES, SIZE, 2)

    assert len(results) == SIZE
    assert [f"{each.point}: {each.wrong}" for each in results if each.wrong] == []
    # A life may make a few calls less than those that were counted.
    assert sum(result.reached for result in results) > SIZE * 0.8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("story", STORIES)
async def test_each_service_may_be_killed_in_the_middle_of_an_order(story, strace):
    log = Log(None)
    with quiet():
        async with Nursery(strace) as nursery:
            log.plan([point async for point in few(nursery, story)])
        results = await script.crash([story], SERVICES, None, 2, log)

    assert len(results) == 12
    assert [f"{each.point}: {each.wrong}" for each in results if each.wrong] == []
    # A life may make a few calls less than those that were counted.
    assert sum(result.reached for result in results) >= 10


@pytest.mark.usefixtures("strace")
async def test_a_sitting_that_is_interrupted_ends_at_once_and_leaves_its_log(tmp_path):
    log = tmp_path / "log"
    Log(log).plan(
        [Point("bought", "payments", table_of(("pwrite64", nth))) for nth in range(1, 100)]
    )
    sitting = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", INTERRUPTIBLE, f"--log={log}"), cwd=ROOT
    )
    async with asyncio.timeout(60):
        while not Log(log).results:
            await asyncio.sleep(0.05)
        sitting.send_signal(signal.SIGINT)
        assert await sitting.wait() == 130

    assert 0 < len(Log(log).left) < 99


async def test_a_point_without_a_kill_is_a_story_told_in_peace(strace):
    async with Nursery(strace) as nursery:
        result = await run(nursery, Point("bought", "payments", ()))

    assert (result.kills, result.outcome, list(result.wrong)) == (0, "CONFIRMED", [])


@contextmanager
def quiet() -> Iterator[None]:
    """Who is away is said by every caller."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
