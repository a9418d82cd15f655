"""mesh.guard: the column around work that is not a call."""

from __future__ import annotations

import asyncio

import pytest

import mesh
from mesh.errors import BulkheadFull, CircuitOpen, Code
from mesh.policy.breaker import Breaker
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.config import Policy
from mesh.policy.retry import Retry

QUICK = Retry(attempts=3, base=0.001, codes=frozenset({Code.UNAVAILABLE}))


async def test_a_guarded_block_opens_its_circuit_by_its_own_errors():
    policy = Policy(breaker=Breaker(failures=2, cooldown=60.0))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            async with mesh.guard(policy, "opens"):
                raise ConnectionError("down")
    with pytest.raises(CircuitOpen) as caught:
        async with mesh.guard(policy, "opens"):
            raise AssertionError("the block must not begin")
    assert caught.value.retry_after > 59
    async with mesh.guard(policy, "another"):
        pass


async def test_an_error_that_says_nothing_of_health_passes():
    policy = Policy(breaker=Breaker(failures=1, cooldown=60.0))
    for _ in range(3):
        with pytest.raises(ValueError, match="mine"):
            async with mesh.guard(policy, "passes"):
                raise ValueError("mine")


async def test_a_block_is_never_repeated_and_never_waits_to_be():
    policy = Policy(retry=Retry(attempts=5, base=10.0, codes=frozenset({Code.UNAVAILABLE})))

    async def block() -> None:
        async with mesh.guard(policy, "once", idempotent=True):
            raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(block(), 2)


async def test_a_decorated_function_is_repeated_when_it_may_be():
    ran = 0

    @mesh.guard(Policy(retry=QUICK), "repeats", idempotent=True)
    async def work(answer: str) -> str:
        nonlocal ran
        ran += 1
        if ran < 3:
            raise ConnectionError("down")
        return answer

    assert await work("done") == "done"
    assert ran == 3


async def test_a_function_with_side_effects_runs_once():
    ran = 0

    @mesh.guard(Policy(retry=QUICK), "runs-once")
    async def work() -> None:
        nonlocal ran
        ran += 1
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        await work()
    assert ran == 1


async def test_a_timeout_ends_the_block():
    with pytest.raises(TimeoutError):
        async with mesh.guard(Policy(timeout=0.02), "slow"):
            await asyncio.sleep(5)


async def test_a_timeout_ends_the_function():
    @mesh.guard(Policy(timeout=0.02), "slow-function")
    async def work() -> None:
        await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await work()


async def test_a_full_bulkhead_refuses_and_cancellation_gives_the_place_back():
    policy = Policy(bulkhead=Bulkhead(limit=1, queue=0))
    begun = asyncio.Event()

    async def hold() -> None:
        async with mesh.guard(policy, "full"):
            begun.set()
            await asyncio.Event().wait()

    holder = asyncio.ensure_future(hold())
    await begun.wait()
    with pytest.raises(BulkheadFull):
        async with mesh.guard(policy, "full"):
            raise AssertionError("the block must not begin")
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    async with mesh.guard(policy, "full"):
        pass


async def test_one_guard_serves_many_tasks_and_nests():
    guard = mesh.guard(Policy(bulkhead=Bulkhead(limit=100)), "shared")

    async def work(number: int) -> int:
        async with guard, guard:
            await asyncio.sleep(0)
            return number

    assert await asyncio.gather(*(work(n) for n in range(20))) == list(range(20))


def test_a_guard_needs_a_name():
    with pytest.raises(mesh.PolicyError, match=r"guard\.name"):
        mesh.guard(Policy())
