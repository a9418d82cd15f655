"""A server that is offered twice what it can do, over real sockets: what still gets done."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import grpc

from mesh.policy.adaptive import AdaptiveLimit
from mesh.server import Limits
from tests.server.echo import Echo, Text
from tests.server.serving import Serving

# Four threads, 20 ms each: 200 calls a second, and never more.
THREADS, WORK = 4, 0.02
CAPACITY = THREADS / WORK
OFFERED = 2 * CAPACITY
SECONDS = 4.0
# What a caller waits: a queue of more than a hundred calls is useless to all in it.
PATIENCE = 0.5
LEVELS = ("critical", "sheddable")


class Slow(Echo):
    """Blocks one of few threads for its work."""

    def Say(self, request: Any, context: Any) -> Any:
        time.sleep(WORK)
        return request


async def offer(echo: Any, seconds: float) -> dict[str, Counter[grpc.StatusCode]]:
    """An open loop of both kinds in turn: who is slow is not spared; the statuses by kind."""
    loop, calls = asyncio.get_running_loop(), []
    began, number = loop.time(), 0
    while (now := loop.time() - began) < seconds:
        while number < now * OFFERED:
            level = LEVELS[number % 2]
            metadata = (("x-mesh-criticality", level),)
            calls.append(
                (level, echo.Say(Text(number=number), timeout=PATIENCE, metadata=metadata))
            )
            number += 1
        await asyncio.sleep(0.005)
    counted: dict[str, Counter[grpc.StatusCode]] = {level: Counter() for level in LEVELS}
    for level, call in calls:
        counted[level][await call.code()] += 1
    return counted


async def test_under_twice_its_capacity_a_server_does_its_work_and_sheds_what_can_wait() -> None:
    rule = AdaptiveLimit(initial=50, least=4, interval=0.1)
    async with Serving(Slow(), limits=Limits(threads=THREADS, adaptive=rule)) as echo:
        await offer(echo, 1.0)  # learning
        found = await offer(echo, SECONDS)

    ok, refused = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
    done = {level: found[level][ok] / found[level].total() for level in LEVELS}
    answered = sum(found[level][ok] for level in LEVELS) / SECONDS
    late = sum(found[level][grpc.StatusCode.DEADLINE_EXCEEDED] for level in LEVELS)
    told = f"{answered:.0f} a second of {CAPACITY:.0f}, {done}, {late} late"

    assert answered >= 0.5 * CAPACITY, told
    assert done["critical"] > 2 * done["sheddable"], told
    assert found["sheddable"][refused] > found["critical"][refused], told
    # Whoever cannot be served is told so at once, not left waiting.
    assert late <= 0.1 * OFFERED * SECONDS, told
