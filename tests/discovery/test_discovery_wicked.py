"""
The Consul registry against agents that misbehave: real sockets, a scripted server.

Each answer of the script is given to one request of the watch; the last one for ever.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from discovery import Check, Health, Instance, Snapshot, connect
from discovery.agent import Agent
from discovery.consul.registry import ConsulRegistry
from discovery.consul.settings import Settings

from .conftest import agent_process, free_ports

SECONDS = 10.0


def entry(name: str, *, status: str = "passing") -> dict[str, Any]:
    return {
        "Node": {"Node": "vm", "Address": "127.0.0.1"},
        "Service": {"ID": name, "Service": "orders", "Address": "127.0.0.1", "Port": 5001},
        "Checks": [{"CheckID": "c", "Status": status}],
    }


@dataclass
class Says:
    """One answer; `body` replaces the entries, of which `half` are sent before it ends or hangs."""

    index: int = 0
    names: str = ""
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    cuts: bool = False
    half: bool = False


@dataclass
class Wicked:
    """A scripted agent, and the queries it was asked."""

    script: list[Says]
    queries: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    origin: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/agent/self":
            return web.json_response({})
        self.queries.append(dict(request.query))
        self.times.append(time.monotonic())
        says = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        body = says.body
        if body is None:
            body = json.dumps([entry(name) for name in says.names.split()]).encode()
        headers = {"X-Consul-Index": str(says.index)} if says.index else {}
        if says.half:
            answer = web.StreamResponse(headers=headers | {"Content-Length": str(2 * len(body))})
            await answer.prepare(request)
            await answer.write(body)
        if says.hangs:
            await asyncio.Event().wait()
        if says.cuts or says.half:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=says.status, body=body, headers=headers | says.headers)


@asynccontextmanager
async def wicked(*script: Says) -> AsyncIterator[Wicked]:
    server = Wicked(list(script))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def watching(origin: str, **options: Any) -> AsyncIterator[AsyncIterator[Snapshot]]:
    settings = Settings(origin=origin, **{"settle": 0.3, "wait": 1.0} | options)
    async with (
        ConsulRegistry(settings) as registry,
        aclosing(registry.watch("orders")) as watch,
        asyncio.timeout(SECONDS),
    ):
        yield watch


def seen(snapshot: Snapshot) -> str:
    """The endpoints' ids, "b?" where one is only kept and last in line."""
    names = " ".join(one.id + "?" * (one.weight == 0) for one in snapshot.endpoints)
    return f"{names} (stale)" if snapshot.stale_since is not None else names


HANGS = Says(hangs=True)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Says(status=500, body=b"No cluster leader"), id="answers 500"),
        pytest.param(Says(status=403, body=b"ACL not found"), id="answers 403"),
        pytest.param(Says(status=302, headers={"Location": "/else"}), id="redirects"),
        pytest.param(Says(index=9, body=b"<html>It works!</html>"), id="answers HTML"),
        pytest.param(Says(index=9, body=b'{"Error": "no"}'), id="answers an object"),
        pytest.param(Says(index=9, body=b'[{"Service": 1}]'), id="answers other entries"),
        pytest.param(Says(index=9, body=b"\xff\xfe"), id="answers bytes"),
        pytest.param(Says(index=9, body=b""), id="answers nothing"),
        pytest.param(Says(body=b"[]"), id="answers without an index"),
        pytest.param(Says(index=9, body=b"[]", headers={"Content-Encoding": "gzip"}), id="lies"),
        pytest.param(Says(cuts=True), id="cuts the connection"),
        pytest.param(Says(index=9, body=b"[]", half=True), id="breaks off"),
        pytest.param(Says(index=9, body=b"[]", half=True, hangs=True), id="hangs half-way"),
    ],
)
async def test_no_trouble_empties_the_pool(trouble: Says) -> None:
    script = [Says(5, "a b"), trouble, trouble, Says(6, "a"), Says(7, "a b"), HANGS]
    async with wicked(*script) as agent, watching(agent.origin, wait=0.2, slack=0.3) as watch:
        news = [seen(await anext(watch)) for _ in range(4)]

    assert news == ["a b", "a b (stale)", "a b? (stale)", "a b"]


async def test_a_query_that_was_cut_off_is_not_asked_again_with_its_index() -> None:
    """An agent that begins anew would hold it back until its own index gets there."""
    script = [Says(5, "a"), Says(cuts=True), Says(5, "a b"), HANGS]
    async with wicked(*script) as agent, watching(agent.origin) as watch:
        news = [seen(await anext(watch)) for _ in range(3)]

    assert news == ["a", "a (stale)", "a b"]
    assert [query.get("index") for query in agent.queries[:3]] == [None, "5", None]


async def test_an_agent_that_is_down_from_the_start_is_said_at_once() -> None:
    with free_ports(1) as (port,):
        async with watching(f"http://127.0.0.1:{port}") as watch:
            assert seen(await anext(watch)) == " (stale)"


async def test_an_agent_that_hangs_is_given_up_after_its_time() -> None:
    async with wicked(HANGS) as agent, watching(agent.origin, slack=0.2) as watch:
        before = time.monotonic()
        assert seen(await anext(watch)) == " (stale)"

    assert 0.2 <= time.monotonic() - before < 2.0


async def test_a_true_empty_answer_empties_the_pool() -> None:
    script = [Says(5, "a"), Says(6, ""), HANGS]
    async with wicked(*script) as agent, watching(agent.origin) as watch:
        assert [seen(await anext(watch)) for _ in range(2)] == ["a", ""]


async def test_an_agent_back_and_empty_keeps_the_pool_for_the_settling_time() -> None:
    script = [Says(50, "a b"), Says(status=500), Says(2, ""), Says(3, "b"), Says(4, "b")]
    async with wicked(*script) as agent, watching(agent.origin) as watch:
        news = [seen(await anext(watch)) for _ in range(2)]
        before = time.monotonic()
        news += [seen(await anext(watch)) for _ in range(2)]

    assert news == ["a b", "a b (stale)", "a? b (stale)", "b"]
    assert time.monotonic() - before > 0.3


async def test_an_index_that_goes_backwards_starts_again_from_the_beginning() -> None:
    script = [Says(50, "a"), Says(7, "a c"), Says(7, "a c"), HANGS]
    async with wicked(*script) as agent, watching(agent.origin, settle=5.0) as watch:
        assert seen(await anext(watch)) == "a"
        assert seen(await anext(watch)) == "a c"
        asking = asyncio.ensure_future(anext(watch))
        while len(agent.queries) < 4:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    assert [query.get("index") for query in agent.queries] == [None, "50", None, "7"]
    assert [query.get("wait") for query in agent.queries[1:4:2]] == ["1000ms", "1000ms"]


async def test_answers_too_far_behind_are_asked_of_the_leader() -> None:
    behind = {"X-Consul-LastContact": "99000", "X-Consul-KnownLeader": "true"}
    script = [Says(5, "old", headers=behind), Says(9, "new"), HANGS]
    async with wicked(*script) as agent, watching(agent.origin) as watch:
        assert seen(await anext(watch)) == "new"

    assert ["stale" in query for query in agent.queries[:2]] == [True, False]


async def test_a_tag_and_a_datacenter_are_asked_for() -> None:
    async with wicked(Says(5, "a"), HANGS) as agent:
        address = agent.origin.removeprefix("http://")
        async with (
            connect(f"consul://{address}?dc=east&stale=0") as registry,
            aclosing(registry.watch("orders", tag="v2")) as watch,
            asyncio.timeout(SECONDS),
        ):
            assert seen(await anext(watch)) == "a"

    assert agent.queries[0] == {"tag": "v2", "dc": "east"}


async def test_a_datacenter_that_nobody_knows_is_told(
    agent: Agent, consul: str, caplog: pytest.LogCaptureFixture
) -> None:
    for address in (agent.address, consul):
        caplog.clear()
        async with (
            connect(f"consul://{address}?dc=elsewhere") as registry,
            aclosing(registry.watch("orders")) as watch,
            asyncio.timeout(SECONDS),
        ):
            assert seen(await anext(watch)) == " (stale)"
        assert "No path to datacenter" in caplog.text


async def test_an_agent_that_answers_at_once_for_ever_is_not_flooded() -> None:
    async with wicked(Says(5, "a")) as agent, watching(agent.origin) as watch:
        await anext(watch)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await anext(watch)

    assert len(agent.queries) <= 6


async def test_a_change_is_seen_within_ten_milliseconds_of_the_answer() -> None:
    """
    The quickest of fifty, from the agent's own write to the consumer's snapshot.

    Whatever waits by design would delay all; on a busy machine the median is the machine's own,
    and `scripts/bench --discovery` says it undisturbed.
    """
    delays = []
    async with (
        Agent.serving() as agent,
        watching(f"http://{agent.address}", wait=30.0) as watch,
        ConsulRegistry(Settings(origin=f"http://{agent.address}")) as registry,
        registry.register(Instance("orders", "127.0.0.1", 5001, check=Check("ttl", ttl=600.0))),
    ):
        while not (await anext(watch)).endpoints:
            pass
        for number in range(50):
            status = ("critical", "passing")[number % 2]
            asking = asyncio.ensure_future(anext(watch))
            while not agent.catalog.waiters.get("service:orders"):
                await asyncio.sleep(0.001)
            changed = time.perf_counter()
            agent.local.heartbeat("service:orders-127.0.0.1-5001", status, "")
            snapshot = await asking
            delays.append(time.perf_counter() - changed)

            assert snapshot.endpoints[0].health is Health(status)

    assert min(delays) < 0.010


async def test_a_kill_and_an_empty_restart_of_the_agent_lose_nobody() -> None:
    """kill -9, five failing tries, back and empty: registered again, the pool never empty."""
    instance = Instance("orders", "127.0.0.1", 5001, check=Check("ttl", ttl=3.0))
    async with agent_process() as (first, port):
        settings = Settings(origin=f"http://127.0.0.1:{port}", settle=5.0)
        async with (
            ConsulRegistry(settings) as registry,
            registry.register(instance),
            aclosing(registry.watch("orders")) as watch,
            asyncio.timeout(20.0),
        ):
            assert seen(await anext(watch)) == instance.id
            first.kill()
            assert seen(await anext(watch)) == f"{instance.id} (stale)"
            async with agent_process(port):
                back = time.monotonic()
                assert seen(await anext(watch)) == instance.id

                # One period, and what is left of a backoff of at most as much.
                assert time.monotonic() - back < 3.0
                async with aclosing(registry.watch("orders")) as fresh:
                    assert seen(await anext(fresh)) == instance.id


async def test_watches_that_block_leave_room_for_everything_else(agent: Agent, consul: str) -> None:
    """Forty at once of one client, and its registrations and commands go on beside them."""
    for address in (agent.address, consul):
        async with (
            ConsulRegistry(Settings(origin=f"http://{address}", wait=30.0)) as registry,
            AsyncExitStack() as stack,
            asyncio.timeout(SECONDS),
        ):
            watches = [registry.watch(f"crowd-{number}") for number in range(40)]
            for watch in watches:
                await stack.enter_async_context(aclosing(watch))
                assert not (await anext(watch)).endpoints
            blocked = [asyncio.ensure_future(anext(watch)) for watch in watches]
            await asyncio.sleep(0)
            for number in (0, 39):
                lonely = Instance(f"crowd-{number}", "127.0.0.1", 5001, check=None)
                await stack.enter_async_context(registry.register(lonely))
                assert seen(await blocked[number]) == lonely.id
            for waiting in blocked:
                waiting.cancel()
            await asyncio.gather(*blocked, return_exceptions=True)


async def test_a_service_whose_loop_is_blocked_is_found_ill_and_well_again() -> None:
    """Its own loop beats the ttl: no thread says that all is well while nobody is served."""
    check = Check("ttl", ttl=0.6)
    async with agent_process() as (_, port):
        settings = Settings(origin=f"http://127.0.0.1:{port}", settle=0.3)
        async with (
            ConsulRegistry(settings) as registry,
            registry.register(Instance("orders", "127.0.0.1", 5001, check=check)),
            aclosing(registry.watch("orders")) as watch,
            asyncio.timeout(SECONDS),
        ):
            assert (await anext(watch)).endpoints[0].health is Health.PASSING
            asking = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.1)  # so that the query blocks before we do
            time.sleep(1.5)
            health = [one.endpoints[0].health for one in (await asking, await anext(watch))]

    assert health == [Health.CRITICAL, Health.PASSING]
