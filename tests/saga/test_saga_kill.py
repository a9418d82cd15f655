"""A runner killed with -9 anywhere leaves a saga that another brings to its end, within seconds."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from mesh.saga import Context, Refused, Saga, SagaRunner, Step
from mesh.store import Database, Transaction, connect

# The other services are a directory: a file each, made under the name of the request.
ENDS = "create table ends (id text primary key, outcome text, reason text)"
STEPS = ("reserve", "charge", "confirm")

RUNNER = """
import asyncio, json, sys
from pathlib import Path
from mesh.store import connect
from tests.saga.test_saga_kill import place

async def main(url, world, sagas):
    async with connect(url) as database:
        from mesh.saga import SagaRunner
        async with SagaRunner(database, [place(Path(world), slow=0.02)], owner="doomed") as runner:
            for n in range(sagas):
                await database.transaction(lambda tx: runner.start(tx, "place", f"o-{n}", {"n": n}))
            print("started", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def place(world: Path, slow: float = 0.0) -> Saga:
    """reserve, charge, confirm; every third saga is refused at the end."""

    async def do(context: Context) -> dict[str, str]:
        if slow:
            await asyncio.sleep(slow)
        if context.step == "confirm" and context.data["n"] % 3 == 0:
            raise Refused("THIRD")
        tombstone = world / f"{context.id} undo {context.step}"
        if tombstone.exists():
            raise Refused("UNDONE")
        with (world / f"{context.id} {context.step}").open("a") as file:
            file.write(context.request_id + "\n")
        if slow:
            await asyncio.sleep(slow)
        return {"request": context.request_id}

    async def undo(context: Context) -> None:
        (world / f"{context.id} undo {context.step}").touch()
        (world / f"{context.id} {context.step}").unlink(missing_ok=True)

    async def ended(tx: Transaction, context: Context, outcome: str, reason: str) -> None:
        await tx.execute("insert into ends values ($1, $2, $3)", context.id, outcome, reason)

    return Saga(
        "place",
        Step("reserve", do, undo),
        Step("charge", do, undo),
        Step("confirm", do, kind="pivot"),
        ended=ended,
    )


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.05, 0.08, 0.12])
async def test_a_runner_killed_mid_saga_is_succeeded_within_seconds(
    database: Database, url: str, tmp_path: Path, delay: float
) -> None:
    sagas = 12
    await database.migrate("ends", [ENDS])
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUNNER, url, str(tmp_path), str(sagas), stdout=-1
    )
    assert doomed.stdout
    async with SagaRunner(database, [place(tmp_path)], owner="heir") as heir:
        assert await asyncio.wait_for(doomed.stdout.readline(), 30) == b"started\n"
        await asyncio.sleep(delay)
        doomed.kill()
        await doomed.wait()
        killed = time.monotonic()

        async def unfinished(tx: Transaction) -> int:
            row = await tx.fetchrow("select count(*) as n from saga where state = 'running'")
            return int(row["n"]) if row else 0

        async with asyncio.timeout(10):
            async for _ in database.changes():
                if not await database.read(unfinished):
                    break
        assert time.monotonic() - killed < 5
        journals = [
            await database.read(lambda tx, n=n: heir.find(tx, f"o-{n}")) for n in range(sagas)
        ]

    ends = await database.read(lambda tx: tx.fetch("select * from ends"))
    assert len(ends) == sagas
    for n, instance in enumerate(journals):
        assert instance is not None
        refused = n % 3 == 0
        assert instance.state == ("compensated" if refused else "completed")
        there = {step for step in STEPS if (tmp_path / f"o-{n} {step}").exists()}
        assert there == (set() if refused else set(STEPS))
        for step in there:  # asked once or again, but always under one name
            requests = (tmp_path / f"o-{n} {step}").read_text().split()
            assert len(set(requests)) == 1
    assert json.dumps([row["outcome"] for row in ends])


async def test_an_heir_takes_over_within_two_seconds_of_the_last_sign_of_life(
    database: Database, url: str, tmp_path: Path
) -> None:
    await database.migrate("ends", [ENDS])
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUNNER, url, str(tmp_path), "1", stdout=-1
    )
    assert doomed.stdout
    await asyncio.wait_for(doomed.stdout.readline(), 30)
    async with (
        connect(url) as same,
        SagaRunner(same, [place(tmp_path)], owner="heir"),
    ):
        doomed.kill()
        await doomed.wait()
        killed = time.monotonic()
        async with asyncio.timeout(10):
            async for _ in same.changes():
                if await same.read(lambda tx: tx.fetch("select * from ends")):
                    break
        assert time.monotonic() - killed < 3.5
