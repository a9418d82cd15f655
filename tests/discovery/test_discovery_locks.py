"""Sessions that end by themselves, events, watches by content, and keys that outlive the agent."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from discovery.agent import Agent
from discovery.agent.catalog import Catalog
from discovery.agent.filtering import HEALTH, Unfit, filter_of
from discovery.agent.go import Misread, Refused, value
from discovery.agent.kv import KeyValues
from discovery.agent.records import CheckRecord, NodeRecord
from discovery.agent.sessions import Session, Sessions

from .conftest import agent_process

SECONDS = 5.0


class Shop:
    """A catalog, sessions and keys at a time that the test sets."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.catalog = Catalog()
        self.sessions = Sessions(self.catalog, lambda: self.time)
        self.values = KeyValues(self.catalog, self.sessions, lambda: self.time)
        self.catalog.put_node(NodeRecord("vm", "127.0.0.1"))
        self.catalog.put_check(CheckRecord("vm", "serfHealth", "serf", "passing"))

    def session(self, **options: object) -> str:
        return self.sessions.create(Session("", "vm", **options)).id  # type: ignore[arg-type]


def test_a_session_ends_when_nobody_renews_it_for_twice_its_ttl() -> None:
    shop = Shop()
    renewed, forgotten = shop.session(ttl="10s"), shop.session(ttl="10s")
    for _ in range(3):
        shop.time += 10.0
        found = shop.sessions.find(renewed)
        assert found is not None
        shop.sessions.renew(found)
        shop.sessions.expire()

    assert shop.sessions.find(renewed) is not None
    assert shop.sessions.find(forgotten) is None


def test_a_lost_lock_cannot_be_taken_before_its_delay_is_over() -> None:
    shop = Shop()
    first, second = shop.session(lock_delay=15_000_000_000), shop.session()
    assert shop.values.lock("leader", b"1", 0, first)
    assert not shop.values.lock("leader", b"2", 0, second)

    shop.sessions.destroy(first)
    late = []
    for _ in range(3):
        late.append(shop.values.delayed("leader"))
        shop.time += 14.0

    assert late == [True, True, False]
    assert shop.values.lock("leader", b"2", 0, second)


def test_a_lock_that_is_given_back_may_be_taken_at_once() -> None:
    shop = Shop()
    first, second = shop.session(), shop.session()
    shop.values.lock("leader", b"1", 0, first)
    assert shop.values.unlock("leader", b"", 0, first)

    assert not shop.values.delayed("leader")
    assert shop.values.lock("leader", b"2", 0, second)


def test_a_check_that_falls_ends_the_sessions_that_lean_on_it_in_one_write() -> None:
    shop = Shop()
    session = shop.session()
    shop.values.lock("leader", b"1", 0, session)
    before = shop.catalog.index
    shop.catalog.put_check(CheckRecord("vm", "serfHealth", "serf", "critical"))

    assert shop.catalog.index == before + 1
    assert shop.sessions.find(session) is None
    assert shop.values.get("leader")[0] == before + 1
    with pytest.raises(Refused, match="critical state"):
        shop.session()


@pytest.mark.parametrize(
    "expression",
    ["(" * 200, "not " * 500 + "Service.ID == x", " and ".join(["Service.ID == x"] * 500)],
)
def test_an_expression_without_end_is_refused_quickly(expression: str) -> None:
    with pytest.raises(Unfit, match=r"this development agent reads (64 terms|16 paren)"):
        filter_of(expression, HEALTH)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "EOF"),
        ("{", "unexpected EOF"),
        ('{"a": "b', "unexpected EOF"),
        ("nul", "unexpected EOF"),
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a": 1 "b"}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("{]", "invalid character ']' looking for beginning of object key string"),
    ],
)
def test_broken_json_is_told_as_go_tells_it(body: str, said: str) -> None:
    with pytest.raises(Misread) as error:
        value(body.encode())

    assert str(error.value) == said


@pytest.fixture
async def session(agent: Agent) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{agent.address}") as session:
        yield session


async def test_an_event_wakes_who_waits_for_it(
    agent: Agent, session: aiohttp.ClientSession
) -> None:
    async def fire(name: str, body: str) -> None:
        async with session.put(f"/v1/event/fire/{name}", data=body) as response:
            assert response.status == 200

    async def listed(query: str) -> tuple[str, list[str]]:
        async with session.get(f"/v1/event/list?{query}") as response:
            events = await response.json()
            return response.headers["X-Consul-Index"], [one["Payload"] for one in events]

    await fire("deploy", "one")
    index, payloads = await listed("name=deploy")
    waiting = asyncio.create_task(listed(f"name=deploy&index={index}&wait=10s"))
    async with asyncio.timeout(SECONDS):
        while not agent.catalog.waiters.get("events"):
            await asyncio.sleep(0.001)
        await fire("other", "no")
        await fire("deploy", "two")
        after, more = await waiting

    assert (payloads, more) == (["b25l"], ["b25l", "dHdv"])
    assert after != index


async def test_a_service_is_watched_by_its_content(
    agent: Agent, session: aiohttp.ClientSession
) -> None:
    async def register(port: int) -> None:
        body = {"Name": "orders", "Port": port}
        async with session.put("/v1/agent/service/register", json=body) as response:
            assert response.status == 200

    async def ask(query: str = "") -> tuple[str, int]:
        async with session.get(f"/v1/agent/service/orders{query}") as response:
            return response.headers["X-Consul-ContentHash"], (await response.json())["Port"]

    await register(1)
    hash_, _ = await ask()
    waiting = asyncio.create_task(ask(f"?hash={hash_}&wait=10s"))
    async with asyncio.timeout(SECONDS):
        while not agent.catalog.waiters.get("services"):
            await asyncio.sleep(0.001)
        await register(1)
        await register(2)
        after, port = await waiting

    assert port == 2
    assert after != hash_
    assert await ask(f"?hash={after}&wait=50ms") == (after, 2)


async def test_keys_outlive_the_agent_and_locks_do_not(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with Agent.serving(state=state) as agent, aiohttp.ClientSession() as session:
        origin = f"http://{agent.address}/v1"
        async with session.put(f"{origin}/session/create") as response:
            lock = (await response.json())["ID"]
        for path in ("a?flags=7", f"b?acquire={lock}", "c"):
            async with session.put(f"{origin}/kv/{path}", data=b"\x00\xff") as response:
                assert await response.json() is True
        async with session.delete(f"{origin}/kv/c") as response:
            assert response.status == 200

    async with Agent.serving(state=state) as agent:
        _, entries = agent.values.below("")

    assert [(one.key, one.value, one.flags, one.session) for one in entries] == [
        ("a", b"\x00\xff", 7, ""),
        ("b", b"\x00\xff", 0, ""),
    ]


async def test_keys_are_written_soon_after_they_change(tmp_path: Path) -> None:
    async with (
        agent_process(0, "--state", str(tmp_path)) as (process, port),
        aiohttp.ClientSession() as session,
    ):
        async with session.put(f"http://127.0.0.1:{port}/v1/kv/a", data="1") as response:
            assert response.status == 200
        async with asyncio.timeout(SECONDS):
            while not (tmp_path / "kv.json").exists():
                await asyncio.sleep(0.01)
        process.kill()

    assert json.loads((tmp_path / "kv.json").read_text()) == [
        {"key": "a", "value": "MQ==", "flags": 0}
    ]


async def test_a_state_that_cannot_be_read_stops_the_agent(tmp_path: Path) -> None:
    (tmp_path / "kv.json").write_text('[{"key": 1}]')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "discovery.agent", "--port", "0", "--state", str(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        _, errors = await process.communicate()

    assert process.returncode == 2
    assert errors.decode().startswith(f"agent: state in '{tmp_path}/kv.json': ")
