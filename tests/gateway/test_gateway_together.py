"""What workers share is removed when they are gone, however they went, and never before."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import together
from gateway.together import OWNED, directory, sweep
from tests.gateway.test_gateway_process import process
from tests.gateway.test_gateway_workers import LINUX, _runs, children, held_by

HOLD = "import sys; sys.stdin.read()"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(together, "RAM", tmp_path)
    return tmp_path


def test_it_is_gone_when_the_block_ends(place: Path) -> None:
    with directory() as made:
        assert list(place.iterdir()) == [made.path]
        assert [each.name for each in made.path.iterdir()] == [OWNED]
    assert list(place.iterdir()) == []


def test_one_that_is_used_is_left_alone(place: Path) -> None:
    with directory() as first, directory() as second:
        sweep(place)
        assert set(place.iterdir()) == {first.path, second.path}


def test_a_worker_that_outlives_its_supervisor_keeps_it(place: Path) -> None:
    """It may still drain: the lock is its own as well."""
    left = place / "gateway-left"
    with directory() as made:
        made.path.rename(left)  # so that the end of the block does not remove it
        worker = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, pass_fds=[made.owned]
        )
    try:
        sweep(place)
        assert left.is_dir()
    finally:
        worker.communicate(timeout=30)
    sweep(place)
    assert not left.exists()


def test_what_is_no_gateways_is_left_alone(place: Path) -> None:
    """One that is being made has no owner yet; another program's has none either."""
    for name in ("gateway-new", "gateway-other", "another"):
        (place / name).mkdir()
    (place / "gateway-other" / "file").touch()
    (place / "gateway-file").touch()
    target = place / "target"
    target.touch()
    (place / "gateway-new" / OWNED).symlink_to(target)
    sweep(place)

    assert {each.name for each in place.iterdir()} == {
        *("gateway-new", "gateway-other", "gateway-file", "another", "target")
    }


@LINUX
async def test_a_killed_supervisors_is_removed_by_the_next_one() -> None:
    async def serving(child: asyncio.subprocess.Process) -> Path:
        """Where its workers share what they share."""
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), 60)
        command = Path(f"/proc/{children(child.pid)[0]}/cmdline").read_bytes().split(b"\0")
        return Path(os.fsdecode(command[command.index(b"--worker") + 1].split(b":", 3)[3]))

    workers = ("--workers", "2")
    async with (
        process(*workers, MESH_REGISTRY="memory://x") as living,
        process(*workers, MESH_REGISTRY="memory://x") as killed,
    ):
        kept, left = await serving(living), await serving(killed)
        orphans = children(killed.pid)
        assert [str(left / OWNED) in held_by(pid) for pid in orphans] == [True, True]
        killed.kill()
        await killed.wait()
        async with asyncio.timeout(20):
            while any(_runs(pid) for pid in orphans):
                await asyncio.sleep(0.05)
        assert left.is_dir()
        async with process(*workers, MESH_REGISTRY="memory://x") as third:
            own = await serving(third)
            assert (kept.is_dir(), left.exists(), own.is_dir()) == (True, False, True)
            assert {kept, left}.isdisjoint({own})
