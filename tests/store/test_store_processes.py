"""Processes that share a file take turns, and what one has been told is durable outlives it."""

import asyncio
import sys
from pathlib import Path

import pytest

from mesh.store import Database
from mesh.store.sqlite import SqliteDatabase
from tests.store.conftest import items

SATURATE = """
import asyncio, sys, threading, time
from mesh.store import connect

late = 0.0

def watch():
    # How late this machine makes a thread that has nothing to do with the store.
    global late
    while True:
        begun = time.monotonic()
        time.sleep(0.01)
        late = max(late, time.monotonic() - begun - 0.01)

async def main(path, name, writers, seconds):
    longest, done = 0.0, 0
    threading.Thread(target=watch, daemon=True).start()
    async with connect(f"sqlite:///{path}") as database:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        ends = time.monotonic() + seconds

        async def write(number):
            nonlocal longest, done
            turn = 0
            while time.monotonic() < ends:
                turn += 1
                begun = time.monotonic()
                await database.transaction(lambda tx: tx.execute(
                    "insert into list (item) values ($1)", f"{name}-{number}-{turn}" + "x" * 200))
                longest, done = max(longest, time.monotonic() - begun), done + 1

        await asyncio.gather(*(write(number) for number in range(writers)))
    print(longest, done, late, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
"""

TELL = """
import asyncio, sys
from mesh.store import connect

async def main(url):
    async with connect(url) as database:
        async def write(number):
            while True:
                item = f"{number}"
                await database.transaction(lambda tx: tx.execute(
                    "insert into list (item) values ($1)", item))
                print(item, flush=True)
                number += 16
        await asyncio.gather(*(write(number) for number in range(16)))

asyncio.run(main(sys.argv[1]))
"""


async def saturate(path: Path, *writers: int) -> list[tuple[float, int, float]]:
    """
    Longest wait (s), number of works, and how late the machine was (s), of processes that write
    all the time, side by side.
    """
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SATURATE,
            str(path),
            str(index),
            str(count),
            "2",
            stdin=-1,
            stdout=-1,
        )
        for index, count in enumerate(writers)
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    lines = [output[0].decode().split() for output in outputs]
    return [(float(longest), int(done), float(late)) for longest, done, late in lines]


@pytest.mark.parametrize("writers", [(64, 64), (1, 200), (8, 8, 8)])
async def test_nobody_waits_over_a_second_beside_a_saturated_writer(
    sqlite: SqliteDatabase, path: Path, writers: tuple[int, ...]
) -> None:
    outcomes = await asyncio.wait_for(saturate(path, *writers), 60)
    # A machine that makes everybody late makes a writer late at each of its turns.
    late = max(late for _, _, late in outcomes)
    assert max(longest for longest, _, _ in outcomes) < 1.0 + 10 * late
    assert len(await items(sqlite)) == sum(done for _, done, _ in outcomes)


async def test_what_was_told_survives_kill_9(database: Database, url: str) -> None:
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", TELL, url, stdout=-1)
    assert writer.stdout
    told = [(await writer.stdout.readline()).decode().strip() for _ in range(200)]
    writer.kill()
    told += (await writer.stdout.read()).decode().split("\n")[:-1]
    await writer.wait()
    kept = set(await items(database))
    assert set(told) <= kept
    assert len(kept) <= len(told) + 16
