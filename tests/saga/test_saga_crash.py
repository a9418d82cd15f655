"""
A runner killed at its Nth write-like system call, for every N: opening, migrating, each commit.

strace kills it in the middle of what it does; an heir on the same file brings every saga to its
end.  Nothing may be done twice, left half, or forgotten.
"""

import asyncio
import shutil
import sys
import time
from pathlib import Path

import pytest

from mesh.saga import SagaRunner
from mesh.store import Transaction, connect
from tests.saga.test_saga_kill import STEPS, place

# Two sagas, of which the second one is refused at its pivot and goes back.
RUNNER = """
import asyncio, sys
from pathlib import Path
from mesh.saga import SagaRunner
from mesh.store import connect
from tests.saga.test_saga_kill import place

async def main(path, world):
    async with connect(f"sqlite:///{path}") as database:
        await database.migrate("ends", ["create table ends (id text primary key, outcome, reason)"])
        async with SagaRunner(database, [place(Path(world))]) as runner:
            for n in (1, 0):
                await database.transaction(lambda tx: runner.start(tx, "place", f"o-{n}", {"n": n}))
                Path(world, f"told o-{n}").touch()
            async for _ in database.changes():
                if len(await database.read(lambda tx: tx.fetch("select * from ends"))) == 2:
                    break

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace kills at a system call; it is not installed"
)


async def crash(path: Path, world: Path, call: str, nth: int) -> bool:
    """Run the runner until its nth such call; answers whether that killed it."""
    process = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
        "-e", f"inject={call}:signal=KILL:when={nth}",
        sys.executable, "-c", RUNNER, str(path), str(world),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, complaint = await asyncio.wait_for(process.communicate(), 60)
    if b"ptrace" in complaint or b"PTRACE" in complaint:
        pytest.skip("this system doesn't let strace trace")
    return process.returncode != 0


async def recover(path: Path, world: Path) -> list[str]:
    """An heir brings what it finds to its end; the ids of the sagas that there are."""
    # Its clock is ahead, so that it need not wait for the dead runner's leases.
    ahead = time.time() + 10
    async with connect(f"sqlite:///{path}") as database:
        await database.migrate("ends", ["create table ends (id text primary key, outcome, reason)"])
        begun = time.time()
        async with SagaRunner(
            database, [place(world)], clock=lambda: ahead + time.time() - begun
        ) as heir:

            async def open_sagas(tx: Transaction) -> list[str]:
                rows = await tx.fetch("select id from saga where state = 'running'")
                return [row["id"] for row in rows]

            async with asyncio.timeout(20):
                async for _ in database.changes():
                    if not await database.read(open_sagas):
                        break
            ids = [
                row["id"] for row in await database.read(lambda tx: tx.fetch("select id from saga"))
            ]
            for saga_id in ids:
                instance = await database.read(lambda tx, each=saga_id: heir.find(tx, each))
                assert instance
                assert instance.state == ("completed" if saga_id == "o-1" else "compensated")
        ends = await database.read(lambda tx: tx.fetch("select id from ends"))
        assert sorted(row["id"] for row in ends) == sorted(ids)
    return ids


async def survive(tmp_path: Path, call: str, nth: int) -> bool:
    """Crash at one point, recover, and see that all is well; False when there is no such point."""
    path, world = tmp_path / f"{call}-{nth}" / "orders.db", tmp_path / f"{call}-{nth}" / "world"
    world.mkdir(parents=True)
    crashed = await crash(path, world, call, nth)
    ids = await recover(path, world)
    told = {file.name.removeprefix("told ") for file in world.glob("told *")}
    assert told <= set(ids), "what was told was durable"
    assert crashed or told == {"o-0", "o-1"}
    for saga_id in ids:
        there = {step for step in STEPS if (world / f"{saga_id} {step}").exists()}
        assert there == (set(STEPS) if saga_id == "o-1" else set())
        for step in there:
            assert len(set((world / f"{saga_id} {step}").read_text().split())) == 1
    return crashed


@pytest.mark.parametrize("nth", [1, 4, 9, 15, 22, 30, 41])
async def test_a_runner_killed_while_it_writes_leaves_nothing_half(
    tmp_path: Path, nth: int
) -> None:
    await survive(tmp_path, "pwrite64", nth)


@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8, 11])
async def test_a_runner_killed_while_it_syncs_leaves_nothing_half(tmp_path: Path, nth: int) -> None:
    await survive(tmp_path, "fdatasync", nth)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate", "unlink", "flock"])
async def test_a_runner_killed_anywhere_leaves_nothing_half(tmp_path: Path, call: str) -> None:
    nth = 0
    while await survive(tmp_path, call, nth := nth + 1):
        pass
    assert nth > 1, f"{call} is made at least once"
