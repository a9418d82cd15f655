"""py-consul, as a user has it, cannot tell the embedded agent from the real one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import consul.aio
import pytest
from consul import Check

from discovery.agent import Agent

from .comparing import same
from .conftest import real_consul

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def story(client: consul.aio.Consul) -> list[Any]:
    """What a program that registers, locks, watches and stores is answered."""
    said: list[Any] = []
    agent, kv, session, health = client.agent, client.kv, client.session, client.health
    said.append(await agent.service.register("orders", "o1", port=1, check=Check.ttl("100s")))
    said.append(await agent.check.ttl_pass("service:o1", "fine"))
    said.append((await health.service("orders", passing=True))[1])
    said.append((await health.checks("orders"))[1])
    said.append((await health.state("passing"))[1])
    said.append((await client.catalog.services())[1])
    said.append((await client.catalog.service("orders"))[1])
    said.append((await client.catalog.nodes())[1])
    said.append(await client.catalog.datacenters())
    said.append(await agent.services())
    said.append(await agent.checks())
    said.append(await agent.service.maintenance("o1", "true", "why"))
    said.append((await health.service("orders", passing=True))[1])
    said.append(await agent.service.maintenance("o1", "false"))
    said.append(await kv.put("a/b", "one", flags=3))
    said.append(await kv.put("a/c", "two", cas=0))
    said.append(await kv.put("a/c", "three", cas=0))
    said.append((await kv.get("a", recurse=True))[1])
    said.append((await kv.get("a/", keys=True, separator="/"))[1])
    said.append((await kv.get("nobody"))[1])
    lock = await session.create("mine", ttl=20, lock_delay=0, behavior="delete")
    said.append(await kv.put("lock", "held", acquire=lock))
    said.append((await kv.get("lock"))[1]["LockIndex"])
    said.append(len(await session.renew(lock)))
    said.append((await session.info(lock))[1]["TTL"])
    said.append(len((await session.list())[1]))
    said.append(await session.destroy(lock))
    said.append((await kv.get("lock"))[1])
    value = base64.b64encode(b"x").decode()
    said.append(await client.txn.put([{"KV": {"Verb": "set", "Key": "t", "Value": value}}]))
    said.append(await kv.delete("", recurse=True))
    said.append((await client.event.fire("deploy", "v2"))["Name"])
    said.append(await agent.service.deregister("o1"))
    said.append((await health.service("orders"))[1])
    said.append((await agent.self())["Config"].keys())
    said.append([member["Status"] for member in await agent.members()])
    said.append(isinstance(await client.status.leader(), str))
    return said


async def told(address: str) -> list[Any]:
    host, _, port = address.rpartition(":")
    async with consul.aio.Consul(host=host, port=int(port)) as client:
        return [same(one) for one in await story(client)]


async def test_a_story_told_by_py_consul_ends_alike(agent: Agent, tmp_path: Path) -> None:
    async with real_consul(tmp_path) as address:
        assert await told(agent.address) == await told(address)
