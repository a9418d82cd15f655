"""A rolling restart under load through a mesh channel: the drain order, seen by who it is for."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Self

import grpc
import pytest

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.client.channel import Channel
from mesh.client.sync import SyncChannel
from mesh.policy.config import Policy
from mesh.server.contract import Contract
from mesh.server.intercept import Serving
from mesh.status import DRAINING, error_info, from_trailing
from mesh.telemetry.events import Retried
from mesh.testing.mesh import Mesh
from tests.server.echo import Echo, EchoStub, Text
from tests.server.serving import failure

UNKEYED = Policy()


class Working(Echo):
    """Takes a moment, so that calls are in flight whenever a server leaves, and counts each."""

    def __init__(self, handled: Counter[str] | None = None) -> None:
        self.handled = Counter() if handled is None else handled

    async def Say(self, request, context):
        self.handled[request.text] += 1
        await asyncio.sleep(0.005)
        return request

    async def Count(self, request, context):
        self.handled[request.text] += 1
        yield request

    async def Gather(self, requests, context):
        texts = [each.text async for each in requests]
        self.handled[texts[0]] += 1
        return Text(text=texts[0])

    async def Chat(self, requests, context):
        async for each in requests:
            self.handled[each.text] += 1
            yield each


class Callers:
    """Eight who ask all the time, each call by a text of its own."""

    def __init__(self, echo: EchoStub) -> None:
        self.failed: list[str] = []
        self.answered = 0
        self._echo = echo
        self._asked = 0
        self._finished = False

    async def __aenter__(self) -> Callers:
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(8)]
        return self

    async def __aexit__(self, *why: object) -> None:
        self._finished = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 20)

    async def more(self, count: int) -> None:
        """Wait until so many more calls were answered."""
        async with asyncio.timeout(60):
            wanted = self.answered + count
            while self.answered < wanted:
                await asyncio.sleep(0.005)

    async def _ask(self) -> None:
        while not self._finished:
            self._asked += 1
            try:
                await self._echo.Say(Text(text=f"call {self._asked}"), timeout=10)
                self.answered += 1
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{error.code().name}: {error.details()}")


async def test_a_rolling_restart_fails_no_call():
    async with Mesh() as mesh:
        nodes = [await mesh.serve("echo", [Working()]) for _ in range(2)]
        async with Callers(EchoStub(await mesh.channel("echo"))) as callers:
            for place in range(2):
                await callers.more(50)
                fresh = await mesh.serve("echo", [Working()])
                await nodes[place].stop()
                nodes[place] = fresh
            await callers.more(50)

    assert callers.failed == []
    assert callers.answered >= 150


async def test_what_may_be_done_only_once_is_done_once_through_rolling_restarts():
    """No rule, no key: 2000 calls, none fails, none is handled twice, whoever knows what when."""
    handled: Counter[str] = Counter()
    resent: list[Retried] = []

    def emit(event: Any) -> None:
        if isinstance(event, Retried):
            resent.append(event)

    async with Mesh(Late()) as mesh:
        nodes = [await mesh.serve("echo", [Working(handled)]) for _ in range(3)]
        channel = await mesh.channel("echo", UNKEYED, emit=emit)
        async with Callers(EchoStub(channel)) as callers:
            for turn in range(8):
                await callers.more(250)
                fresh = await mesh.serve("echo", [Working(handled)])
                await nodes[turn % 3].stop()
                nodes[turn % 3] = fresh

    assert callers.failed == []
    assert callers.answered >= 2000
    assert set(handled.values()) == {1}
    assert len(handled) == callers.answered
    assert resent, "servers did refuse calls while they drained"
    assert all(event.transparent for event in resent)


class Late(MemoryRegistry):
    """A registry whose watchers hear of each change half a second late, after the drain's wait."""

    async def watch(self, service: str, *, tag: str | None = None) -> Any:
        async for snapshot in super().watch(service, tag=tag):
            if snapshot.endpoints:
                await asyncio.sleep(0.5)
            yield snapshot


@pytest.mark.parametrize("kind", ["Say", "Count", "Gather", "Chat"])
async def test_a_call_of_any_kind_that_a_draining_server_refuses_goes_elsewhere(kind):
    handled: Counter[str] = Counter()
    async with Two(handled) as two, Channel("echo", UNKEYED, registry=two.registry) as channel:
        for _ in range(12):
            echo = EchoStub(channel)
            made = getattr(echo, kind)(_requests(kind), timeout=10)
            if kind in ("Say", "Gather"):
                reply = await made
            else:
                (reply,) = [each async for each in made]
            assert reply.text == "staying"
    assert handled == {"staying": 12}


def _requests(kind: str) -> Any:
    return iter([Text(text="staying")]) if kind in ("Gather", "Chat") else Text(text="staying")


async def test_a_blocking_call_that_a_draining_server_refuses_goes_elsewhere():
    handled: Counter[str] = Counter()
    async with Two(handled) as two:

        def asking() -> list[str]:
            with SyncChannel("echo", UNKEYED, registry=two.registry) as channel:
                echo = EchoStub(channel)
                return [echo.Say(Text(text="staying"), timeout=10).text for _ in range(12)]

        assert await asyncio.to_thread(asking) == ["staying"] * 12
    assert handled == {"staying": 12}


class Two:
    """One server that is leaving and one that stays; the registry lists both."""

    def __init__(self, handled: Counter[str]) -> None:
        self.registry = MemoryRegistry()
        self._handled = handled

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        pool = self._stack.enter_context(ThreadPoolExecutor(1))
        for name in ("leaving", "staying"):
            serving = Serving()
            handlers = Contract([Working(self._handled)]).generic_handlers(pool)
            server = grpc.aio.server(handlers=handlers, interceptors=(serving,))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            self._stack.push_async_callback(server.stop, 0)
            instance = Instance("echo", "127.0.0.1", port, id=name)
            await self._stack.enter_async_context(self.registry.register(instance))
            if name == "leaving":
                await serving.leave(0.0)
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._stack.aclose()


async def test_a_draining_server_says_so_in_its_error_info():
    async with Two(Counter()) as two:
        found = (await anext(two.registry.watch("echo"))).endpoints
        leaving = next(each for each in found if each.id == "leaving")
        async with grpc.aio.insecure_channel(leaving.address) as channel:
            said = await failure(EchoStub(channel).Say(Text(text="x")))
    info = error_info(from_trailing(tuple(said.trailing_metadata())))
    assert (said.code(), info.reason, info.domain) == (
        grpc.StatusCode.UNAVAILABLE,
        DRAINING,
        "proxyless",
    )
