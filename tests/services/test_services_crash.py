"""A sample of the crash matrix: killed with -9 at a write, started again, and audited."""

import asyncio
import logging
from pathlib import Path

import pytest

from scripts import crash as script
from scripts import parts
from scripts.crashing.log import Log
from scripts.crashing.matrix import STORIES, sample
from scripts.crashing.point import Point, Result, run
from scripts.crashing.victim import Kill, counts

SIZE = 24


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


def test_the_table_says_what_was_killed_and_what_failed():
    once = Point("bought", "orders", table_of(("write", 1)))
    twice = Point("bought", "payments", table_of(("write", 1), ("sendto", 2)))
    results = [
        Result(once, 1, "CONFIRMED", 1.0, 0.5, ()),
        Result(twice, 2, "CONFIRMED", 3.0, 2.5, ("money is gone",)),
        Result(twice, 1, "CONFIRMED", 4.0, 0.0, ()),
    ]

    last = script.table(results).splitlines()[-1].split()

    assert last == ["all", "3", "3", "1", "1", "1", "3.0", "4.0", "2.5"]


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


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_service_killed_at_any_write_leaves_a_shop_that_agrees():
    """Some of `scripts/crash --whole`, which is every write of every story."""
    try:
        parts.ensure("strace")
    except parts.Unavailable as why:
        pytest.skip(f"strace: {why}")
    logging.disable(logging.CRITICAL)  # who is away is said by every caller
    try:
        results = await script.crash(STORIES, ("orders", "payments", "inventory"), SIZE, 2)
    finally:
        logging.disable(logging.NOTSET)

    assert len(results) == SIZE
    assert [f"{each.point}: {each.wrong}" for each in results if each.wrong] == []
    # A life may make a few calls less than those that were counted.
    assert sum(result.reached for result in results) > SIZE * 0.8


# In the middle of each life, where nobody needs to count first.
ALWAYS = (
    Point("bought", "payments", table_of(("pwrite64", 60))),
    Point("declined", "inventory", table_of(("pwrite64", 70))),
    Point("cancelled", "orders", table_of(("pwrite64", 140), ("pwrite64", 20))),
)


@pytest.mark.timeout(180)
async def test_each_service_may_be_killed_in_the_middle_of_an_order():
    try:
        strace = await asyncio.to_thread(parts.ensure, "strace")
    except parts.Unavailable as why:
        pytest.skip(f"strace: {why}")
    logging.disable(logging.CRITICAL)
    try:
        results = await asyncio.gather(*(run(strace, point) for point in ALWAYS))
    finally:
        logging.disable(logging.NOTSET)

    assert [f"{each.point}: {each.wrong}" for each in results if each.wrong] == []
    assert all(result.reached for result in results)
    # The third may be confirmed before its customer can change their mind.
    assert [result.outcome for result in results[:2]] == ["CONFIRMED", "CANCELLED"]


async def test_a_point_without_a_kill_is_a_story_told_in_peace():
    try:
        strace = await asyncio.to_thread(parts.ensure, "strace")
    except parts.Unavailable as why:
        pytest.skip(f"strace: {why}")

    result = await run(strace, Point("bought", "payments", ()))

    assert (result.kills, result.outcome, list(result.wrong)) == (0, "CONFIRMED", [])
