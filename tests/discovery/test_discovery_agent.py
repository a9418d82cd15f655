"""The embedded agent by itself: checks that really look, indexes that block, a prompt stop."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc.aio
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from discovery.agent import Agent
from discovery.agent.catalog import Catalog
from discovery.agent.definition import CheckDefinition
from discovery.agent.go import Misread, seconds
from discovery.agent.local import Local
from discovery.agent.probes import serving_status

from .conftest import agent_process

SECONDS = 5.0


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Door:
    """Asks one agent over HTTP."""

    def __init__(self, agent: Agent, session: aiohttp.ClientSession) -> None:
        self._origin = f"http://{agent.address}/v1/"
        self._session = session

    async def put(self, path: str, body: Any = None) -> None:
        async with self._session.put(self._origin + path, json=body) as response:
            assert response.status == 200, await response.text()

    async def get(self, path: str) -> tuple[int, Any]:
        """The index and the body."""
        async with self._session.get(self._origin + path) as response:
            assert response.status == 200, await response.text()
            return int(response.headers.get("X-Consul-Index", 0)), await response.json()

    async def register(self, check: dict[str, Any]) -> None:
        await self.put("agent/service/register", {"Name": "orders", "Port": 1, "Check": check})

    async def until(self, status: str) -> str:
        """What the check of "orders" says once it is `status`; waits by blocking queries."""
        index = 0
        async with asyncio.timeout(SECONDS):
            while True:
                index, checks = await self.get(f"health/checks/orders?index={index}")
                if checks and checks[0]["Status"] == status:
                    return str(checks[0]["Output"])


@pytest.fixture
def door(agent: Agent, session: aiohttp.ClientSession) -> Door:
    return Door(agent, session)


@asynccontextmanager
async def grpc_server() -> AsyncIterator[tuple[int, health.aio.HealthServicer]]:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, servicer
    finally:
        await server.stop(0)


async def test_a_grpc_check_follows_what_the_server_says_of_itself(door: Door) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    async with grpc_server() as (port, servicer):
        await servicer.set("", serving)
        await door.register({"GRPC": f"127.0.0.1:{port}", "Interval": "50ms", "Timeout": "1s"})
        assert await door.until("passing") == f"gRPC check 127.0.0.1:{port}: success"

        await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "serving status: 2" in await door.until("critical")

        await servicer.set("", serving)
        await door.until("passing")
    assert "code = Unavailable" in await door.until("critical")


async def test_a_grpc_check_may_ask_for_one_service(door: Door) -> None:
    async with grpc_server() as (port, servicer):
        await servicer.set("shop.orders.v1.OrderService", health_pb2.HealthCheckResponse.SERVING)
        check = {"GRPC": f"127.0.0.1:{port}/shop.orders.v1.OrderService", "Interval": "50ms"}
        await door.register(check)
        await door.until("passing")

        check["GRPC"] = f"127.0.0.1:{port}/nobody"
        await door.register(check)
        assert "code = NotFound" in await door.until("critical")


async def test_a_server_that_comes_back_passes_within_two_intervals(door: Door) -> None:
    async with grpc_server() as (port, servicer):
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        await door.register({"GRPC": f"127.0.0.1:{port}", "Interval": "100ms"})
        await door.until("passing")
    await door.until("critical")

    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    back = time.monotonic()
    await door.until("passing")
    await server.stop(0)

    assert time.monotonic() - back < 2.0


@pytest.mark.parametrize(
    ("status", "found"), [(200, "passing"), (429, "warning"), (500, "critical"), (302, "critical")]
)
async def test_an_http_check_reads_the_status(door: Door, status: int, found: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="as told")

    application = web.Application()
    application.router.add_get("/health", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    await door.register({"HTTP": f"http://127.0.0.1:{port}/health", "Interval": "50ms"})
    output = await door.until(found) if found != "critical" else ""
    if found == "critical":
        while "as told" not in output:
            _, checks = await door.get("agent/checks")
            output = checks["service:orders"]["Output"]
            await asyncio.sleep(0.01)
    await runner.cleanup()

    assert f": {status} " in output


async def test_a_tcp_check_connects(door: Door) -> None:
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    await door.register({"TCP": f"127.0.0.1:{port}", "Interval": "50ms"})
    assert await door.until("passing") == f"TCP connect 127.0.0.1:{port}: Success"

    listener.close()
    await listener.wait_closed()
    assert f"dial tcp 127.0.0.1:{port}" in await door.until("critical")


async def test_a_ttl_expires_and_a_heartbeat_brings_it_back(door: Door) -> None:
    await door.register({"TTL": "100ms", "Status": "passing"})
    assert await door.until("critical") == "TTL expired"

    await door.put("agent/check/pass/service:orders?note=back")
    assert await door.until("passing") == "back"
    expired = "TTL expired (last output before timeout follows): back"
    assert await door.until("critical") == expired


async def test_a_check_turns_after_as_many_in_a_row_as_asked_for(door: Door) -> None:
    local = Local(Catalog(), "vm")
    definition = CheckDefinition(
        id="c", name="c", tcp="127.0.0.1:1", interval=60.0, passing_after=1, critical_after=2
    )
    local.add_check(definition)
    running = local.checks._running["c"]
    said = []
    for status in ["passing", "passing", "critical", "critical", "critical", "passing", "passing"]:
        local.checks._found(running, status, "")
        said.append(local.all_checks()[0].status)
    await local.checks.close()

    assert said == ["critical", *["passing"] * 3, *["critical"] * 2, "passing"]


async def test_what_stays_critical_is_deregistered_after_a_minute_at_least() -> None:
    local = Local(Catalog(), "vm")
    definition = CheckDefinition(id="c", name="c", ttl=60.0, deregister_after=60.0)
    local.add_check(definition)
    now = time.monotonic()
    overdue = [bool(local.checks.overdue(now + after)) for after in (1.0, 59.0, 61.0)]
    local.heartbeat("c", "passing", "")
    overdue.append(bool(local.checks.overdue(now + 600.0)))
    await local.checks.close()

    assert overdue == [False, False, True, False]


async def test_a_blocked_query_returns_with_the_change_and_not_with_others(
    agent: Agent, door: Door
) -> None:
    index, _ = await door.get("health/service/orders")
    blocked = asyncio.create_task(door.get(f"health/service/orders?index={index}&wait=10s"))
    while not agent.catalog.waiters.get("service:orders"):
        await asyncio.sleep(0.001)
    await door.put("agent/service/register", {"Name": "payments", "Port": 2})
    await door.put("agent/service/register", {"Name": "orders", "Port": 1})
    async with asyncio.timeout(SECONDS):
        after, found = await blocked

    assert after > index
    assert [one["Service"]["Port"] for one in found] == [1]


async def test_a_query_whose_wait_is_over_answers_the_same_index(door: Door) -> None:
    index, _ = await door.get("health/service/orders")
    before = time.monotonic()
    again, found = await door.get(f"health/service/orders?index={index}&wait=100ms")

    assert (again, found) == (index, [])
    assert 0.1 <= time.monotonic() - before < 1.0


async def test_an_index_above_the_agents_own_blocks(door: Door) -> None:
    """As Consul does: it is the client's to see that the index went backwards."""
    before = time.monotonic()
    index, _ = await door.get("health/service/orders?index=999999&wait=100ms")

    assert index < 999999
    assert time.monotonic() - before >= 0.1


async def test_registering_the_same_again_is_no_change(door: Door) -> None:
    check = {"TTL": "60s", "Status": "passing"}
    await door.register(check)
    before, _ = await door.get("health/service/orders")
    await door.register(check)
    after, _ = await door.get("health/service/orders")

    assert before == after


async def test_a_registration_with_its_check_is_one_change(agent: Agent, door: Door) -> None:
    before = agent.catalog.index
    await door.register({"TTL": "60s"})

    assert agent.catalog.index == before + 1


async def test_an_agent_with_blocked_queries_stops_at_once(session: aiohttp.ClientSession) -> None:
    async with Agent.serving() as agent:
        door = Door(agent, session)
        blocked = [
            asyncio.create_task(door.get("health/service/orders?index=99&wait=60s"))
            for _ in range(20)
        ]
        while len(agent.catalog.waiters.get("service:orders", ())) < 20:
            await asyncio.sleep(0.01)
        before = time.monotonic()
    stopped = time.monotonic() - before
    await asyncio.gather(*blocked, return_exceptions=True)

    assert stopped < 1.0


async def test_sigterm_stops_the_process_with_zero() -> None:
    async with agent_process() as (process, _):
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0


async def test_a_busy_port_is_one_line_and_exit_code_two(agent: Agent) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "discovery.agent", "--port", str(agent.port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        output, errors = await process.communicate()

    assert (process.returncode, output) == (2, b"")
    assert errors.decode().count("\n") == 1
    assert errors.decode().startswith(f"agent: cannot listen on 127.0.0.1:{agent.port}: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("10s", 10.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("100ms", 0.1), ("0", 0.0), (5e9, 5.0)],
)
def test_a_duration_is_read_as_go_reads_it(text: object, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [("10", 'missing unit in duration "10"'), ("s", 'invalid duration "s"'), ("1s?", "invalid")],
)
def test_a_bad_duration_is_refused_in_gos_words(text: str, why: str) -> None:
    with pytest.raises(Misread, match=why):
        seconds(text)


@pytest.mark.parametrize(
    ("reply", "status"), [(b"", 0), (b"\x08\x01", 1), (b"\x08\x02", 2), (b"\x10\x01", 0)]
)
def test_a_health_reply_is_read_by_hand(reply: bytes, status: int) -> None:
    assert serving_status(reply) == status
