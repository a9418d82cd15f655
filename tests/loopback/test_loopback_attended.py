"""Policies that change under interceptors and guards, where there is no channel to enter."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import discovery
import mesh
from discovery.agent import Agent
from mesh.policy.service_config import dump
from tests.loopback.test_loopback_policies import (
    AGAIN,
    BAD,
    COMPLAINT,
    OFTEN,
    ONCE,
    renamed_over,
    wait_for,
)
from tests.loopback.town import KEY, Flaky, Town, eventually, method


def followers() -> list[Any]:
    """What follows a policy just now: tasks of this loop, and threads."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "mesh-policy"]
    return [*tasks, *(each for each in threading.enumerate() if each.name == "mesh-policy")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    path.write_text(dump(ONCE))
    return path


@pytest.fixture
async def hall(town: Town) -> tuple[Flaky, str]:
    """A server that may fail, and its address."""
    flaky = Flaky("one")
    return flaky, f"127.0.0.1:{await town.open(flaky)}"


async def test_interceptors_follow_a_file_and_keep_the_last_good_policy(
    hall: tuple[Flaky, str], path: Path
) -> None:
    flaky, address = hall
    async with (
        mesh.interceptors(mesh.PolicyFile(path, seconds=OFTEN)) as ours,
        grpc.aio.insecure_channel(address, interceptors=ours) as channel,
    ):
        flaky.failures = [grpc.StatusCode.UNAVAILABLE]
        with pytest.raises(grpc.aio.AioRpcError):
            await method(channel)(b"", metadata=KEY, timeout=5)
        renamed_over(path, dump(AGAIN))
        await eventually(lambda: ours.policy == AGAIN)
        flaky.failures = [grpc.StatusCode.UNAVAILABLE]
        assert await method(channel)(b"", metadata=KEY, timeout=5) == b"one"

        renamed_over(path, BAD)
        await eventually(lambda: COMPLAINT in ours.policy_error)
        flaky.failures = [grpc.StatusCode.UNAVAILABLE]
        assert await method(channel)(b"", metadata=KEY, timeout=5) == b"one"
        assert ours.policy == AGAIN
        assert len(followers()) == 1
    assert followers() == []


async def test_closed_they_follow_no_more_and_calls_go_on(
    hall: tuple[Flaky, str], path: Path
) -> None:
    ours = mesh.interceptors(mesh.PolicyFile(path, seconds=OFTEN))
    async with grpc.aio.insecure_channel(hall[1], interceptors=ours) as channel:
        assert await method(channel)(b"", timeout=5) == b"one"
        await ours.aclose()
        await ours.aclose()
        renamed_over(path, dump(AGAIN))
        await asyncio.sleep(5 * OFTEN)
        assert await method(channel)(b"", timeout=5) == b"one"
        assert ours.policy == ONCE
        assert followers() == []


async def test_interceptors_that_were_forgotten_are_followed_for_no_more(
    hall: tuple[Flaky, str], path: Path
) -> None:
    ours = mesh.interceptors(mesh.PolicyFile(path, seconds=OFTEN))
    async with grpc.aio.insecure_channel(hall[1], interceptors=ours) as channel:
        assert await method(channel)(b"", timeout=5) == b"one"
    assert len(followers()) == 1
    del ours, channel
    # What grpc has not finished yet may still hold the call for a moment.
    await eventually(lambda: gc.collect() >= 0 and followers() == [])


def test_another_loop_follows_anew(path: Path) -> None:
    guard = mesh.guard(mesh.PolicyFile(path, seconds=OFTEN), "another-loop")

    async def once(policy: mesh.Policy) -> None:
        async with guard:
            renamed_over(path, dump(policy))
            await eventually(lambda: guard.policy == policy)

    asyncio.run(once(AGAIN))
    asyncio.run(once(ONCE))


def test_a_policy_that_never_changes_is_followed_by_nobody() -> None:
    async def once() -> None:
        async with mesh.guard(ONCE, "fixed"):
            assert followers() == []

    asyncio.run(once())


async def test_blocking_interceptors_follow_a_file_by_a_thread_that_ends(
    hall: tuple[Flaky, str], path: Path
) -> None:
    flaky, address = hall

    def work() -> None:
        with (
            mesh.sync_interceptors(mesh.PolicyFile(path, seconds=OFTEN)) as ours,
            grpc.insecure_channel(address) as plain,
        ):
            channel = grpc.intercept_channel(plain, *ours)
            assert method(channel)(b"", timeout=5) == b"one"
            renamed_over(path, BAD)
            wait_for(lambda: COMPLAINT in ours.policy_error)
            assert method(channel)(b"", timeout=5) == b"one"
            renamed_over(path, dump(AGAIN))
            wait_for(lambda: ours.policy == AGAIN)
            flaky.failures = [grpc.StatusCode.UNAVAILABLE]
            assert method(channel)(b"", metadata=KEY, timeout=5) == b"one"

    await asyncio.to_thread(work)
    assert followers() == []


async def test_a_guard_follows_a_file(path: Path) -> None:
    guard = mesh.guard(mesh.PolicyFile(path, seconds=OFTEN), "follows", idempotent=True)
    failing = 1

    @guard
    async def work() -> str:
        nonlocal failing
        failing -= 1
        if failing >= 0:
            raise ConnectionError("down")
        return "done"

    with pytest.raises(ConnectionError):
        await work()
    renamed_over(path, dump(AGAIN))
    await eventually(lambda: guard.policy == AGAIN)
    failing = 1
    assert await work() == "done"
    renamed_over(path, BAD)
    await eventually(lambda: COMPLAINT in guard.policy_error)
    assert await work() == "done"
    await guard.aclose()
    assert followers() == []


@pytest.fixture
async def consul() -> AsyncIterator[tuple[str, Any]]:
    """The embedded agent's URL, and its key-value store."""
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(Agent.serving())
        registry: Any = await stack.enter_async_context(discovery.connect(agent.url))
        yield agent.url, registry.client.commands.kv


async def test_a_key_is_followed_in_the_registry_that_was_given(
    consul: tuple[str, Any], hall: tuple[Flaky, str]
) -> None:
    url, keys = consul
    key = mesh.PolicyKey("mesh/policies/hall", default=ONCE)
    async with discovery.connect(url) as registry:
        guard = mesh.guard(key, "keyed", registry=registry)
        ours = mesh.interceptors(key, registry=url)
        theirs = mesh.sync_interceptors(key, registry=url)

        def blocking() -> None:
            with grpc.insecure_channel(hall[1]) as plain:
                channel = grpc.intercept_channel(plain, *theirs)
                assert method(channel)(b"", timeout=5) == b"one"

        async with guard, grpc.aio.insecure_channel(hall[1], interceptors=ours) as channel:
            assert await method(channel)(b"", timeout=5) == b"one"
            await asyncio.to_thread(blocking)
            await keys.put("mesh/policies/hall", dump(AGAIN))
            for each in (guard, ours, theirs):
                await eventually(lambda each=each: each.policy == AGAIN)
            await keys.put("mesh/policies/hall", BAD)
            for each in (guard, ours, theirs):
                await eventually(lambda each=each: COMPLAINT in each.policy_error)
                assert each.policy == AGAIN
        await guard.aclose()
        await ours.aclose()
        await asyncio.to_thread(theirs.close)
    assert followers() == []


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (mesh.interceptors, "interceptors"),
        (mesh.sync_interceptors, "sync_interceptors"),
        (lambda policy: mesh.guard(policy, "keyless"), "guard"),
    ],
)
def test_a_key_without_a_registry_is_refused_by_name(make: Any, what: str) -> None:
    with pytest.raises(mesh.PolicyError) as refused:
        make(mesh.PolicyKey("mesh/policies/hall"))
    assert str(refused.value) == (
        f"{what}.registry: None must be given: key mesh/policies/hall is kept by one"
    )


@pytest.mark.parametrize(
    "make",
    [mesh.interceptors, mesh.sync_interceptors, lambda policy: mesh.guard(policy, "senseless")],
)
def test_a_file_that_makes_no_sense_begins_nothing(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(BAD)
    with pytest.raises(mesh.PolicyError, match=r"policy\.json: \$\.methodConfig\[0\]\.timeout: 's"):
        make(mesh.PolicyFile(path))
