"""
A cluster that loses its leader, is cut in two and forgets everything: no call of the mesh fails.

150 calls a second go on all the while, through mesh.Channel, to servers that stay well.  What is
registered during a trouble is found after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from pathlib import Path

import grpc.aio
import pytest
from shop.notifications.v1 import NotificationServiceServicer

import mesh
from discovery import Registry, Snapshot, connect
from mesh.server.drain import Drain

from .cluster import Cluster, cluster
from .grounds import AGENT, SERVERS

# Where the cluster is on loopback addresses instead, that is said and no failure.
pytestmark = pytest.mark.filterwarnings("default:no network namespaces")

RATE = 150.0
PATIENCE_SECONDS = 45.0
AWAY_SECONDS = 60.0
METHOD = "/grpc.health.v1.Health/Check"


def server(host: str, registry: Registry) -> AbstractAsyncContextManager[str]:
    """A server that says SERVING, drained as any other when it leaves; yields its address."""
    served = mesh.Server("orders", [NotificationServiceServicer()], registry=registry)
    return served.serving(host, drain_seconds=Drain().wait)


class Load:
    """
    150 calls a second; a call that fails is a line in `failed`.

    What a busy machine delayed is made up for at twice the rate, not by hundreds at once, which a
    server refuses.  The line says when, and how late this process was by then: where others leave
    it no time to call, calls fail of that.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        self.count = 0
        self.failed: list[str] = []
        self._begun = asyncio.get_running_loop().time()

    async def run(self) -> None:
        self._begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as calls:
            while True:
                calls.create_task(self._call())
                self.count += 1
                await asyncio.sleep(max(0.5 / RATE, -self._late()))

    def _late(self) -> float:
        """Seconds that the next call should have been sent ago."""
        return asyncio.get_running_loop().time() - self._begun - self.count / RATE

    async def _call(self) -> None:
        try:
            await self._ask(b"", timeout=3.0)
        except grpc.aio.AioRpcError as error:
            when = asyncio.get_running_loop().time() - self._begun
            late = max(0.0, self._late())
            what = f"{error.code().name}: {error.details()}"
            self.failed.append(f"after {when:.1f} s, {late:.1f} s late: {what}")


class Town:
    """The cluster, two servers and the load on them."""

    def __init__(self, made: Cluster, registry: Registry, load: Load) -> None:
        self.cluster = made
        self.registry = registry
        self.load = load

    async def seen(self, holds: Callable[[Snapshot], bool], member: int = AGENT) -> Snapshot:
        """The first snapshot, of a watch of `member` begun now, of which `holds` is true."""
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            connect(f"consul://{self.cluster.address(member)}") as registry,
            aclosing(registry.watch("orders")) as watch,
        ):
            async for snapshot in watch:
                if holds(snapshot):
                    return snapshot
        raise AssertionError("the watch ended")

    async def a_third_is_found(self) -> None:
        """What is registered now is seen, and is gone from sight when it leaves."""
        async with server(self.cluster.here, self.registry) as third:
            await self.seen(lambda now: third in [one.address for one in now.endpoints])
        await self.seen(lambda now: third not in [one.address for one in now.endpoints])


@pytest.fixture
async def town(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(cluster(tmp_path, getattr(request, "param", "")))
        url = f"consul://{made.address(AGENT)}"
        registry = await stack.enter_async_context(connect(url))
        for _ in range(2):
            await stack.enter_async_context(server(made.here, registry))
        channel = await stack.enter_async_context(mesh.Channel("orders", registry=registry))
        town = Town(made, registry, Load(channel))
        await town.seen(lambda now: len(now.endpoints) == 2)
        running = asyncio.create_task(town.load.run())
        try:
            yield town
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_leader_fails_no_call(town: Town) -> None:
    leader = await town.cluster.leader()
    await town.cluster.kill(leader)
    await town.a_third_is_found()
    assert await town.cluster.leader() != leader

    await town.cluster.start(leader)
    await town.a_third_is_found()

    assert town.load.failed == []


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("town", ["namespaces", "loopback"], indirect=True)
async def test_a_minority_that_is_cut_off_fails_no_call(town: Town) -> None:
    """Our agent and one server on this side, the other two on no side: nobody can lead."""
    # A follower hears a moment later what the others have agreed on, and after the cut never.
    await town.seen(lambda now: len(now.endpoints) == 2, SERVERS[0])
    town.cluster.unplug(*SERVERS[1:])
    await asyncio.sleep(20.0)
    cut_off = await town.seen(lambda now: len(now.endpoints) >= 2)

    town.cluster.plug(*SERVERS[1:])
    await town.cluster.leader()
    await town.a_third_is_found()

    assert len(cut_off.endpoints) == 2
    assert town.load.failed == []
    assert town.load.count > 20 * RATE * 0.8


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_an_agent_that_is_gone_for_a_minute_and_back_empty_fails_no_call(town: Town) -> None:
    await town.cluster.kill(AGENT)
    await asyncio.sleep(AWAY_SECONDS)
    await town.cluster.start(AGENT, empty=True)

    await town.seen(lambda now: len(now.endpoints) == 2 and now.stale_since is None)
    await town.a_third_is_found()

    assert town.load.failed == []
    assert town.load.count > AWAY_SECONDS * RATE * 0.8
