"""
What every registry promises, held against memory, the embedded agent and the real Consul.

A fake that is not held against the real thing teaches nothing: the three run the same class.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import pytest

import discovery
from discovery import Check, Health, Instance, Registry, Snapshot
from discovery.agent import Agent
from discovery.memory import MemoryRegistry

SECONDS = 5.0
NAMES = (f"service-{number}" for number in itertools.count(1))


class Place(Protocol):
    """A registry and what an operator can do to it from outside."""

    registry: Registry

    async def maintain(self, instance: Instance, *, enable: bool) -> None: ...

    async def report(self, instance: Instance, health: Health) -> None: ...


@dataclass
class MemoryPlace:
    registry: MemoryRegistry

    async def maintain(self, instance: Instance, *, enable: bool) -> None:
        self.registry.set_health(instance.id, Health.CRITICAL if enable else Health.PASSING)

    async def report(self, instance: Instance, health: Health) -> None:
        self.registry.set_health(instance.id, health)


@dataclass
class ConsulPlace:
    registry: Registry
    session: aiohttp.ClientSession
    origin: str

    async def maintain(self, instance: Instance, *, enable: bool) -> None:
        switch = "true" if enable else "false"
        await self._put(f"service/maintenance/{instance.id}?enable={switch}")

    async def report(self, instance: Instance, health: Health) -> None:
        verb = {"passing": "pass", "warning": "warn", "critical": "fail"}[health.value]
        await self._put(f"check/{verb}/service:{instance.id}")

    async def _put(self, path: str) -> None:
        async with self.session.put(f"{self.origin}/v1/agent/{path}") as response:
            assert response.status == 200, await response.text()


@pytest.fixture(params=["memory", "agent", "consul"])
def chosen(request: pytest.FixtureRequest) -> str:
    """Which registry; of the real one, the address."""
    return str(request.getfixturevalue("consul")) if request.param == "consul" else request.param


@pytest.fixture
async def place(chosen: str) -> AsyncIterator[Place]:
    if chosen == "memory":
        async with MemoryRegistry() as memory:
            yield MemoryPlace(memory)
        return
    if chosen == "agent":
        async with Agent.serving() as agent, _consul_place(agent.address) as place:
            yield place
        return
    async with _consul_place(chosen) as place:
        yield place


@asynccontextmanager
async def _consul_place(address: str) -> AsyncIterator[ConsulPlace]:
    async with (
        aiohttp.ClientSession() as session,
        discovery.connect(f"consul://{address}") as registry,
    ):
        yield ConsulPlace(registry, session, f"http://{address}")


async def until(watch: AsyncIterator[Snapshot], holds: object) -> Snapshot:
    """The next snapshot of which `holds` is true."""
    assert callable(holds)
    async with asyncio.timeout(SECONDS):
        async for snapshot in watch:
            if holds(snapshot):
                return snapshot
    raise AssertionError("the watch ended")


def ids(snapshot: Snapshot) -> list[str]:
    return [endpoint.id for endpoint in snapshot.endpoints]


# A ttl long enough that only what a test reports is seen.
QUIET = Check(kind="ttl", ttl=600.0)


class TestEveryRegistry:
    async def test_a_watch_yields_at_once_even_when_nobody_is_there(self, place: Place) -> None:
        async with aclosing(place.registry.watch(next(NAMES))) as watch:
            snapshot = await until(watch, lambda _: True)

        assert snapshot.endpoints == ()
        assert snapshot.stale_since is None

    async def test_a_registration_is_seen_with_all_it_says(self, place: Place) -> None:
        name = next(NAMES)
        instance = Instance(
            name, "127.0.0.1", 5001, tags=("grpc", "v2"), meta={"zone": "a"}, weight=7, check=QUIET
        )
        async with (
            aclosing(place.registry.watch(name)) as watch,
            place.registry.register(instance) as registration,
        ):
            (endpoint,) = (await until(watch, lambda seen: seen.endpoints)).endpoints

        assert registration.instance == instance
        assert (endpoint.id, endpoint.address) == (f"{name}-127.0.0.1-5001", "127.0.0.1:5001")
        assert (endpoint.tags, endpoint.meta, endpoint.weight) == (("grpc", "v2"), {"zone": "a"}, 7)
        assert (endpoint.health, endpoint.zone) == (Health.PASSING, "a")

    async def test_the_last_instance_is_seen_to_leave(self, place: Place) -> None:
        name = next(NAMES)
        async with aclosing(place.registry.watch(name)) as watch:
            async with place.registry.register(Instance(name, "127.0.0.1", 5001, check=QUIET)):
                await until(watch, lambda seen: len(seen.endpoints) == 1)

            snapshot = await until(watch, lambda seen: not seen.endpoints)

        assert snapshot.stale_since is None

    async def test_leaving_twice_is_leaving_once(self, place: Place) -> None:
        name = next(NAMES)
        async with (
            aclosing(place.registry.watch(name)) as watch,
            place.registry.register(Instance(name, "127.0.0.1", 5001, check=QUIET)) as registration,
        ):
            await until(watch, lambda seen: seen.endpoints)
            await registration.leave()
            await until(watch, lambda seen: not seen.endpoints)
            await registration.leave()

    async def test_a_critical_instance_is_shown_and_marked(self, place: Place) -> None:
        name = next(NAMES)
        instance = Instance(name, "127.0.0.1", 5001, check=QUIET)
        async with (
            aclosing(place.registry.watch(name)) as watch,
            place.registry.register(instance),
        ):
            await until(watch, lambda seen: seen.endpoints)
            await place.report(instance, Health.CRITICAL)
            critical = await until(watch, lambda seen: seen.endpoints[0].health is Health.CRITICAL)
            await place.report(instance, Health.PASSING)
            passing = await until(watch, lambda seen: seen.endpoints[0].health is Health.PASSING)

        assert ids(critical) == ids(passing) == [instance.id]

    async def test_an_instance_in_warning_has_its_warning_weight(self, place: Place) -> None:
        name = next(NAMES)
        instance = Instance(name, "127.0.0.1", 5001, weight=9, warning_weight=2, check=QUIET)
        async with (
            aclosing(place.registry.watch(name)) as watch,
            place.registry.register(instance),
        ):
            await until(watch, lambda seen: seen.endpoints)
            await place.report(instance, Health.WARNING)
            warned = await until(watch, lambda seen: seen.endpoints[0].health is Health.WARNING)

        assert warned.endpoints[0].weight == 2

    async def test_maintenance_looks_critical_until_it_ends(self, place: Place) -> None:
        name = next(NAMES)
        instance = Instance(name, "127.0.0.1", 5001, check=QUIET)
        async with (
            aclosing(place.registry.watch(name)) as watch,
            place.registry.register(instance),
        ):
            await until(watch, lambda seen: seen.endpoints)
            await place.maintain(instance, enable=True)
            await until(watch, lambda seen: seen.endpoints[0].health is Health.CRITICAL)
            await place.maintain(instance, enable=False)
            await until(watch, lambda seen: seen.endpoints[0].health is Health.PASSING)

    async def test_maintenance_outlives_a_restart_of_the_instance(self, place: Place) -> None:
        if isinstance(place, MemoryPlace):
            pytest.skip("what memory forgets with an instance, nobody restarts into")
        name = next(NAMES)
        instance = Instance(name, "127.0.0.1", 5001, id=f"{name}-1", check=QUIET)
        again = Instance(name, "127.0.0.1", 5002, id=f"{name}-1", check=QUIET)
        async with (
            aclosing(place.registry.watch(name)) as watch,
            place.registry.register(instance),
        ):
            await place.maintain(instance, enable=True)
            async with place.registry.register(again):
                after = await until(
                    watch, lambda seen: seen.endpoints and seen.endpoints[0].port == 5002
                )

        assert after.endpoints[0].health is Health.CRITICAL

    async def test_a_watch_of_a_tag_shows_only_that(self, place: Place) -> None:
        name = next(NAMES)
        old = Instance(name, "127.0.0.1", 5001, tags=("v1",), check=QUIET)
        new = Instance(name, "127.0.0.1", 5002, tags=("v2",), check=QUIET)
        async with (
            aclosing(place.registry.watch(name, tag="v2")) as watch,
            place.registry.register(old),
            place.registry.register(new),
        ):
            snapshot = await until(watch, lambda seen: seen.endpoints)

        assert ids(snapshot) == [new.id]

    async def test_another_services_change_is_no_news(self, place: Place) -> None:
        name, other = next(NAMES), next(NAMES)
        async with aclosing(place.registry.watch(name)) as watch:
            await until(watch, lambda _: True)
            async with place.registry.register(Instance(other, "127.0.0.1", 1, check=QUIET)):
                pass
            async with place.registry.register(Instance(name, "127.0.0.1", 5001, check=QUIET)):
                async with asyncio.timeout(SECONDS):
                    after = await anext(watch)

        assert ids(after) == [f"{name}-127.0.0.1-5001"]

    async def test_all_watchers_see_a_change(self, place: Place) -> None:
        name = next(NAMES)
        async with (
            aclosing(place.registry.watch(name)) as one,
            aclosing(place.registry.watch(name)) as two,
            place.registry.register(Instance(name, "127.0.0.1", 5001, check=QUIET)),
        ):
            seen = await asyncio.gather(*(until(watch, ids) for watch in (one, two)))

        assert ids(seen[0]) == ids(seen[1])

    async def test_a_later_life_with_the_same_id_replaces_the_ghost(self, place: Place) -> None:
        name = next(NAMES)
        ghost = Instance(name, "127.0.0.1", 5001, id=f"{name}-slot-1", check=QUIET)
        alive = Instance(name, "127.0.0.1", 5002, id=f"{name}-slot-1", check=QUIET)
        async with aclosing(place.registry.watch(name)) as watch:
            async with place.registry.register(ghost) as earlier:
                await until(watch, ids)
                async with place.registry.register(alive):
                    await until(watch, lambda seen: seen.endpoints[0].port == 5002)
                    # The earlier one leaves late: the id is not its own any more.
                    await earlier.leave()
                    async with aclosing(place.registry.watch(name)) as fresh:
                        assert (await until(fresh, lambda _: True)).endpoints[0].port == 5002
            await until(watch, lambda seen: not seen.endpoints)

    async def test_services_are_listed_with_all_their_tags(self, place: Place) -> None:
        name = next(NAMES)
        async with (
            aclosing(place.registry.watch_services()) as watch,
            place.registry.register(Instance(name, "127.0.0.1", 1, tags=("b",), check=QUIET)),
            place.registry.register(Instance(name, "127.0.0.1", 2, tags=("a",), check=QUIET)),
        ):
            async with asyncio.timeout(SECONDS):
                async for services in watch:
                    if services.get(name) == ("a", "b"):
                        break

    async def test_a_service_without_instances_is_listed_no_more(self, place: Place) -> None:
        name = next(NAMES)
        async with aclosing(place.registry.watch_services()) as watch, asyncio.timeout(SECONDS):
            async with place.registry.register(Instance(name, "127.0.0.1", 1, check=QUIET)):
                while name not in await anext(watch):
                    pass
            while name in await anext(watch):
                pass
