"""Keys that are watched: the same stories on a registry in memory, on our agent and on Consul."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

import discovery
from discovery.agent import Agent
from discovery.consul.registry import ConsulRegistry
from discovery.memory import MemoryRegistry
from discovery.registry import Keys

Put = Callable[[str, bytes | None], Awaitable[None]]


@pytest.fixture(params=["memory", "agent", "consul"])
def where(request: pytest.FixtureRequest) -> str:
    """Which registry, or the address of a Consul."""
    chosen = str(request.param)
    return str(request.getfixturevalue("consul")) if chosen == "consul" else chosen


@pytest.fixture
async def kept(where: str) -> AsyncIterator[tuple[Keys, Put]]:
    if where == "memory":
        registry = MemoryRegistry()

        async def keep(key: str, value: bytes | None) -> None:
            registry.set_key(key, value)

        yield registry, keep
    elif where == "agent":
        async with Agent.serving() as agent, commanded(agent.url) as both:
            yield both
    else:
        async with commanded(f"consul://{where}") as both:
            yield both


@asynccontextmanager
async def commanded(url: str) -> AsyncIterator[tuple[Keys, Put]]:
    async with discovery.connect(url) as registry:
        assert isinstance(registry, ConsulRegistry)
        values = registry.client.commands.kv

        async def put(key: str, value: bytes | None) -> None:
            await (values.delete(key) if value is None else values.put(key, value))

        yield registry, put


async def soon(watched: AsyncIterator[bytes | None]) -> bytes | None:
    async with asyncio.timeout(5):
        return await anext(watched)


async def test_a_key_is_told_at_once_and_after_every_change(kept: tuple[Keys, Put]) -> None:
    registry, put = kept
    key = "mesh/policies/told at once?"
    watch: Any = registry.watch_key(key)
    async with aclosing(watch):
        assert await soon(watch) is None
        await put(key, b"one")
        assert await soon(watch) == b"one"
        await put("mesh/policies/another", b"x")
        await put(key, b"one")
        await put(key, b"\xfftwo")
        assert await soon(watch) == b"\xfftwo"
        await put(key, b"")
        assert await soon(watch) == b""
        await put(key, None)
        assert await soon(watch) is None


async def test_a_key_is_followed_through_a_restart_that_forgets_everything() -> None:
    told: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def follow(registry: Keys) -> None:
        async for value in registry.watch_key("policy"):
            told.put_nowait(value)

    async with Agent.serving() as agent, asyncio.timeout(10):
        port, url = agent.port, agent.url
        registry: Any = await discovery.connect(url).__aenter__()
        await registry.client.commands.kv.put("policy", b"one")
        following = asyncio.ensure_future(follow(registry))
        assert await told.get() == b"one"
    async with Agent.serving(port=port), asyncio.timeout(10):
        await registry.client.commands.kv.put("policy", b"two")
        while await told.get() != b"two":
            pass  # that it was not there is true as well
    following.cancel()
    await asyncio.wait([following])
    await registry.__aexit__(None, None, None)
