"""Policies that change while they are in force: files that are written, keys that are put."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

import discovery
import mesh
from discovery.agent import Agent
from discovery.consul.registry import ConsulRegistry
from mesh.policy.service_config import dump
from mesh.telemetry.events import Event, PolicyChanged, PolicyRefused
from tests.loopback.town import KEY, Flaky, Town, eventually, method

ONCE, AGAIN = mesh.Policy(), mesh.Policy(retry=mesh.Retry(attempts=3, base=0.01))
BAD = '{"methodConfig": [{"name": [{}], "timeout": "soon"}]}'
COMPLAINT = "$.methodConfig[0].timeout: 'soon' expected"
# Looked at so often that no test waits long.
OFTEN = 0.02


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def renamed_over(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def linked_anew(path: Path, text: str) -> None:
    """As a config map is mounted: the file is a link, and so is the folder that it leads to."""
    folder = path.parent / f"data-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / path.name).write_text(text)
    link = path.parent / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(folder / path.name)
    link.replace(path)


def slowly(path: Path, text: str) -> None:
    """In two writes, as a text that is larger than a buffer is."""
    with path.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        time.sleep(1.5 * OFTEN)
        file.write(text[len(text) // 2 :])


@pytest.mark.parametrize("write", [in_place, renamed_over, linked_anew, slowly])
async def test_a_file_is_in_force_soon_after_it_was_written(
    town: Town, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    flaky, heard, path = Flaky("one"), list[Event](), tmp_path / "policy.json"
    await town.open(flaky)
    write(path, dump(ONCE))
    source = mesh.PolicyFile(path, seconds=OFTEN)
    async with town.channel(source, emit=heard.append) as channel:
        flaky.failures = [grpc.StatusCode.UNAVAILABLE]
        with pytest.raises(grpc.aio.AioRpcError):
            await method(channel)(b"", metadata=KEY, timeout=5)
        await asyncio.to_thread(write, path, dump(AGAIN))
        await eventually(lambda: channel.policy == AGAIN)
        flaky.failures = [grpc.StatusCode.UNAVAILABLE]

        assert await method(channel)(b"", metadata=KEY, timeout=5) == b"one"
        assert channel.policy_error == ""
    told = [event for event in heard if isinstance(event, PolicyChanged | PolicyRefused)]
    assert told == [PolicyChanged(str(path))]


async def test_a_file_that_makes_no_sense_changes_nothing_and_is_told_once(
    town: Town, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard, path = list[Event](), tmp_path / "policy.json"
    await town.open(Flaky("one"))
    path.write_text(dump(AGAIN))
    source = mesh.PolicyFile(path, seconds=OFTEN)
    async with town.channel(source, emit=heard.append) as channel:
        path.write_text(BAD)
        await eventually(lambda: channel.policy_error)
        assert channel.policy_error.startswith(f"{path}: {COMPLAINT}")
        path.write_text(BAD + "\n")
        await asyncio.sleep(10 * OFTEN)
        assert channel.policy == AGAIN
        assert await method(channel)(b"", timeout=5) == b"one"

        path.unlink()
        await eventually(lambda: "cannot be read" in channel.policy_error)
        assert channel.policy == AGAIN

        path.write_text(dump(ONCE))
        await eventually(lambda: channel.policy == ONCE)
        assert channel.policy_error == ""
    told = [event for event in heard if isinstance(event, PolicyRefused)]
    assert [event.source for event in told] == [str(path)] * 2
    logged = [each.getMessage() for each in caplog.records if COMPLAINT in each.getMessage()]
    assert len(logged) == 1
    assert str(path) in logged[0]


def test_a_channel_does_not_begin_with_a_file_that_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    with pytest.raises(mesh.PolicyError, match=r"policy\.json' cannot be read: No such file"):
        mesh.Channel("town", mesh.PolicyFile(path))
    path.write_text(BAD)
    with pytest.raises(mesh.PolicyError, match=r"policy\.json: \$\.methodConfig\[0\]\.timeout: 's"):
        mesh.SyncChannel("town", mesh.PolicyFile(path))
    with pytest.raises(mesh.PolicyError, match="names no key"):
        mesh.PolicyKey("/")
    with pytest.raises(mesh.PolicyError, match="seconds: 0 is not above 0"):
        mesh.PolicyFile(path, seconds=0)


async def test_a_channel_that_blocks_follows_a_file_too(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    await town.open(Flaky("one"))
    path.write_text(dump(ONCE))

    def work() -> None:
        source = mesh.PolicyFile(path, seconds=OFTEN)
        with mesh.SyncChannel("town", source, registry=town.registry) as channel:
            assert method(channel)(b"", timeout=5) == b"one"
            renamed_over(path, BAD)
            wait_for(lambda: COMPLAINT in channel.policy_error)
            renamed_over(path, dump(AGAIN))
            wait_for(lambda: channel.policy == AGAIN)
            assert method(channel)(b"", timeout=5) == b"one"

    await asyncio.to_thread(work)


def wait_for(predicate: Callable[[], object]) -> None:
    ends = time.monotonic() + 5
    while not predicate():
        assert time.monotonic() < ends
        time.sleep(0.005)


Put = Callable[[str | None], Awaitable[None]]


@pytest.fixture
async def consul(town: Town) -> AsyncIterator[tuple[ConsulRegistry, Put]]:
    """The embedded agent as the registry, and what `consul kv put` does."""
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(Agent.serving())
        registry: Any = await stack.enter_async_context(discovery.connect(agent.url))
        keys = registry.client.commands.kv

        async def put(text: str | None) -> None:
            key = "mesh/policies/town"
            await (keys.delete(key) if text is None else keys.put(key, text))

        yield registry, put


async def test_a_key_in_consul_is_in_force_as_soon_as_it_was_put(
    consul: tuple[ConsulRegistry, Put], caplog: pytest.LogCaptureFixture
) -> None:
    registry, put = consul
    source = mesh.PolicyKey("mesh/policies/town", default=ONCE)
    async with mesh.Channel("town", source, registry=registry) as channel:
        assert channel.policy == ONCE
        await eventually(lambda: "there is no such key" in channel.policy_error)
        await put(dump(AGAIN))
        await eventually(lambda: channel.policy == AGAIN)
        assert channel.policy_error == ""
        await put(BAD)
        await eventually(lambda: COMPLAINT in channel.policy_error)
        assert channel.policy_error.startswith("key mesh/policies/town: ")
        await put(None)
        await eventually(lambda: "there is no such key" in channel.policy_error)
        assert channel.policy == AGAIN
        await put(dump(ONCE))
        await eventually(lambda: channel.policy == ONCE)
    assert len([each for each in caplog.records if COMPLAINT in each.getMessage()]) == 1


async def test_until_there_is_a_key_the_production_policy_is_in_force() -> None:
    channel = mesh.Channel("town", mesh.PolicyKey("mesh/policies/town"))

    assert channel.policy == mesh.Policy.production()


async def test_a_registry_without_keys_is_told_by_name() -> None:
    source = mesh.PolicyKey("mesh/policies/town")
    async with mesh.Channel("static://127.0.0.1:1/?service=town", source) as channel:
        await eventually(lambda: channel.policy_error)

    assert "'mesh/policies/town' cannot be kept by this registry" in channel.policy_error


def test_a_policy_prints_as_the_file_that_it_could_be() -> None:
    policy = mesh.Policy(timeout=2.0, breaker=mesh.Breaker(failures=3))

    assert str(policy) == dump(policy)
    assert '"timeout": "2s"' in str(policy)
    unwritable = mesh.Policy(fallback=mesh.Fallback(value=b"x"))
    assert "Fallback" in str(unwritable)
