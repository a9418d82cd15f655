"""The registries that are lists: in a URL, in a file, and behind a name."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from discovery import DiscoveryError, Endpoint, Instance, connect
from discovery.dns import DnsRegistry
from discovery.memory import MemoryRegistry

SECONDS = 5.0


async def test_a_list_in_the_url_is_every_service() -> None:
    registry = connect("static://10.0.0.1:1,[::1]:2")
    async with aclosing(registry.watch("anything")) as watch, asyncio.timeout(SECONDS):
        snapshot = await anext(watch)

    assert [endpoint.address for endpoint in snapshot.endpoints] == ["10.0.0.1:1", "[::1]:2"]


async def test_a_list_may_be_one_services() -> None:
    url = "static://10.0.0.1:1?service=orders&tag=v2"
    async with connect(url) as registry, asyncio.timeout(SECONDS):
        async with aclosing(registry.watch("payments")) as watch:
            assert (await anext(watch)).endpoints == ()
        async with aclosing(registry.watch("orders", tag="v1")) as watch:
            assert (await anext(watch)).endpoints == ()
        async with aclosing(registry.watch_services()) as services:
            assert await anext(services) == {"orders": ("v2",)}


async def test_a_server_may_register_in_a_list_and_changes_nothing() -> None:
    registry = connect("static://10.0.0.1:1")
    async with registry.register(Instance("orders", "127.0.0.1", 9)) as registration:
        await registration.leave()


def write(file: Path, text: str) -> None:
    """As a careful operator does: whole or not at all."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    write(file, '{"orders": ["10.0.0.1:1"]}')
    registry = connect(f"static://{file}")
    async with aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
        assert [one.host for one in (await anext(watch)).endpoints] == ["10.0.0.1"]

        write(file, '{"orders": [{"host": "10.0.0.2", "port": 2, "weight": 3}]}')
        (endpoint,) = (await anext(watch)).endpoints
        assert (endpoint.address, endpoint.weight) == ("10.0.0.2:2", 3)

        write(file, "{not json")
        broken = await anext(watch)
        assert broken.stale_since is not None
        assert broken.endpoints == (endpoint,)

        file.unlink()
        write(file, "{}")
        assert (await anext(watch)).endpoints == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Input data was truncated"),
        ('{"orders": "10.0.0.1:1"}', r"Expected `array`, got `str` - at `\$\[...\]`"),
        ('{"orders": ["10.0.0.1"]}', "'10.0.0.1' is not host:port"),
        ('{"orders": [{"host": "0.0.0.0", "port": 1}]}', "'0.0.0.0' is not an address"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "servers.json"
    file.write_text(text)
    with pytest.raises(DiscoveryError, match=rf"servers in '{file}': .*{why}"):
        connect(f"static://{file}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match=rf"{os.strerror(2)}"):
        connect(f"static://{tmp_path}/none.json")


class Resolver:
    """Answers one line of a script after the other, the last for ever."""

    def __init__(self, *script: Sequence[str] | OSError) -> None:
        self._script = list(script)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[Endpoint]:
        self.asked.append(name)
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(answer, OSError):
            raise answer
        return [Endpoint(host, host, 50051) for host in answer]


async def test_a_name_is_resolved_again_and_failure_keeps_the_last_addresses() -> None:
    resolver = Resolver(["10.0.0.1"], ["10.0.0.1"], OSError("SERVFAIL"), ["10.0.0.2", "10.0.0.1"])
    registry = DnsRegistry("{service}.test", resolver, interval=0.01)
    async with aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
        news = [await anext(watch) for _ in range(3)]

    assert [[one.host for one in snapshot.endpoints] for snapshot in news] == [
        ["10.0.0.1"],
        ["10.0.0.1"],
        ["10.0.0.1", "10.0.0.2"],
    ]
    assert [snapshot.stale_since is not None for snapshot in news] == [False, True, False]
    assert set(resolver.asked) == {"orders.test"}


async def test_a_name_for_one_service_is_nobody_elses() -> None:
    async with connect("dns://localhost:50051?service=orders") as registry:
        async with aclosing(registry.watch("payments")) as watch, asyncio.timeout(SECONDS):
            assert (await anext(watch)).endpoints == ()
        async with aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
            assert "127.0.0.1:50051" in [one.address for one in (await anext(watch)).endpoints]


async def test_one_memory_name_is_one_place_while_somebody_holds_it() -> None:
    one, two, other = connect("memory://a"), connect("memory://a"), connect("memory://b")
    assert one is two
    assert one is not other
    assert isinstance(one, MemoryRegistry)

    async with (
        one.register(Instance("orders", "127.0.0.1", 1)),
        aclosing(two.watch("orders")) as watch,
    ):
        assert len((await anext(watch)).endpoints) == 1
    del one, two, other
    gc.collect()
