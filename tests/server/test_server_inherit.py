"""What a served call hands down to the calls made for it, by handlers that wait and that block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

import mesh
from mesh.testing.mesh import Mesh
from tests.server.echo import Echo, EchoStub, Text

TRACE = "0af7651916cd43dd8448eb211c80319c"
HANDED = (
    ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),
    ("x-mesh-criticality", "sheddable"),
)
TIMEOUT = 5.0


class Last(Echo):
    """The end of the chain: what it was handed."""

    def __init__(self) -> None:
        self.deadlines: list[float | None] = []
        self.metadata: list[dict[str, Any]] = []

    async def Say(self, request: Any, context: Any) -> Any:
        self.deadlines.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        return request


def asked(request: Any) -> Any:
    return Text(text=request.text)


class Waiting(Echo):
    """Asks the last one, from a coroutine; "detached" belongs to nobody."""

    def __init__(self, channel: Any) -> None:
        self._last = EchoStub(channel)

    async def Say(self, request: Any, context: Any) -> Any:
        if request.text == "detached":
            with mesh.detached():
                return await self._last.Say(asked(request))
        return await self._last.Say(asked(request))

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(request.number):
            yield await self._last.Say(asked(request))

    async def Gather(self, requests: Any, context: Any) -> Any:
        return [await self._last.Say(asked(each)) async for each in requests][-1]

    async def Chat(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for each in requests:
            yield await self._last.Say(asked(each))


class Blocking(Echo):
    """The same from a thread of the server's pool."""

    def __init__(self, channel: Any) -> None:
        self._last = EchoStub(channel)

    def Say(self, request: Any, context: Any) -> Any:
        if request.text == "detached":
            with mesh.detached():
                return self._last.Say(asked(request))
        return self._last.Say(asked(request))

    def Count(self, request: Any, context: Any) -> Iterator[Any]:
        for _ in range(request.number):
            yield self._last.Say(asked(request))

    def Gather(self, requests: Any, context: Any) -> Any:
        return [self._last.Say(asked(each)) for each in requests][-1]

    def Chat(self, requests: Any, context: Any) -> Iterator[Any]:
        for each in requests:
            yield self._last.Say(asked(each))


class Chain:
    """A stub to the first of two servers, and the last one."""

    def __init__(self, echo: EchoStub, last: Last) -> None:
        self.echo, self.last = echo, last

    async def call(self, kind: str, text: str = "") -> None:
        one, many = Text(text=text, number=2), [Text(text=text), Text(text=text)]
        options: dict[str, Any] = {"timeout": TIMEOUT, "metadata": HANDED}
        async with asyncio.timeout(10):
            if kind == "Say":
                await self.echo.Say(one, **options)
            elif kind == "Count":
                assert len([each async for each in self.echo.Count(one, **options)]) == 2
            elif kind == "Gather":
                await self.echo.Gather(iter(many), **options)
            else:
                assert len([each async for each in self.echo.Chat(iter(many), **options)]) == 2


@pytest.fixture(params=[Waiting, Blocking])
async def chain(request: pytest.FixtureRequest) -> AsyncIterator[Chain]:
    last = Last()
    async with Mesh() as town:
        await town.serve("last", [last])
        policy = mesh.Policy(timeout=60.0)
        if request.param is Waiting:
            await town.serve("first", [Waiting(await town.channel("last", policy))])
            yield await opened(town, last)
            return
        channel = mesh.SyncChannel("last", policy, registry=town.registry)
        await asyncio.to_thread(channel.__enter__)
        try:
            await town.serve("first", [Blocking(channel)])
            yield await opened(town, last)
        finally:
            await asyncio.to_thread(channel.close)


async def opened(town: Mesh, last: Last) -> Chain:
    node_channel = await town.channel("first", mesh.Policy())
    return Chain(EchoStub(node_channel), last)


@pytest.mark.parametrize("kind", ["Say", "Count", "Gather", "Chat"])
async def test_a_call_inherits_deadline_trace_and_criticality(chain: Chain, kind: str) -> None:
    began = time.monotonic()
    await chain.call(kind)
    took = time.monotonic() - began

    assert len(chain.last.deadlines) == (1 if kind == "Say" else 2)
    for deadline, metadata in zip(chain.last.deadlines, chain.last.metadata, strict=True):
        assert deadline is not None
        assert TIMEOUT - took - 0.1 < deadline < TIMEOUT + 0.1
        assert TRACE in metadata["traceparent"]
        assert metadata["x-mesh-criticality"] == "sheddable"


async def test_a_detached_call_belongs_to_nobody(chain: Chain) -> None:
    await chain.call("Say", "detached")
    (deadline,), (metadata,) = chain.last.deadlines, chain.last.metadata

    assert deadline is not None
    assert 50 < deadline < 61  # the wire rounds up
    assert TRACE not in metadata.get("traceparent", "")
    assert "x-mesh-criticality" not in metadata


async def test_calls_that_are_served_at_once_do_not_inherit_from_each_other(chain: Chain) -> None:
    async def ask(timeout: float, level: str) -> None:
        metadata = (("x-mesh-criticality", level),)
        await chain.echo.Say(Text(text=level), timeout=timeout, metadata=metadata)

    levels = ("critical", "sheddable", "sheddable_plus", "critical_plus")
    async with asyncio.timeout(20):
        await asyncio.gather(
            *(ask(5.0 + 5 * (n % 4), levels[n % 4]) for n in range(40)),
        )
    for deadline, metadata in zip(chain.last.deadlines, chain.last.metadata, strict=True):
        given = 5.0 + 5 * levels.index(metadata["x-mesh-criticality"])
        assert deadline is not None
        assert given - 4.0 < deadline < given + 0.5  # the wire rounds up


async def test_after_its_deadline_a_served_call_makes_no_further_call(chain: Chain) -> None:
    """What is left is less than the floor: refused on this side, before anything is sent."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chain.echo.Say(Text(), timeout=0.012)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert all(deadline is None or deadline < 0.012 for deadline in chain.last.deadlines)
