"""A service that fails behind three real hops: who is ill is left out, who only needs it is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
import pytest

from mesh.errors import Code, StatusError
from mesh.policy.breaker import Breaker, State
from mesh.policy.config import Policy
from mesh.policy.outlier import FailurePercentage, Outlier
from mesh.status import error_info, from_trailing
from mesh.telemetry.events import EndpointEjected
from mesh.testing.mesh import Mesh
from scripts.trials.witness import Witness
from tests.server.echo import Echo, EchoStub, Text

# Quick to judge: two failures in a row, or a bad interval, are enough.  Each hop keeps back more of
# a deadline than a busy host takes to answer.
STRICT = Policy(
    reserve=0.25,
    breaker=Breaker(failures=3, cooldown=0.2, longest_cooldown=0.2),
    outlier=Outlier(
        consecutive_errors=2,
        interval=0.2,
        base_ejection_time=0.2,
        max_ejection_percent=100,
        success_rate=None,
        failure_percentage=FailurePercentage(minimum_hosts=1, request_volume=2),
    ),
)
OUTAGE = StatusError(Code.UNAVAILABLE, "out of order", reason="OUTAGE", domain="trials")
CORRUPT = StatusError(Code.DATA_LOSS, "lost", reason="LOST", domain="trials")
HOPS = ("edge", "orders", "payments")


class Last(Echo):
    """Answers, or fails as it is told."""

    def __init__(self) -> None:
        self.failure: StatusError | None = None
        self.hangs = False

    async def Say(self, request, context):
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return request


class Middle(Echo):
    """Say asks the next service; Count is answered here."""

    def __init__(self, name: str, following: Any) -> None:
        self.name = name
        self._following = EchoStub(following)

    async def Say(self, request, context):
        return await self._following.Say(request)

    async def Count(self, request, context):
        yield Text(text=self.name)


class Chain:
    """Callers, two edges, two orders, two payments, and what each hop's channel was told."""

    def __init__(self) -> None:
        self.mesh = Mesh()
        self.last = Last()
        self.witness: dict[str, Witness] = {}
        self.channels: dict[str, Any] = {}

    async def __aenter__(self) -> Chain:
        await self.mesh.__aenter__()
        following: Any = None
        for hop in reversed(HOPS):
            for number in (1, 2):
                servicer = self.last if following is None else Middle(f"{hop}-{number}", following)
                await self.mesh.serve(hop, [servicer], instance=f"{hop}-{number}")
            witness = self.witness[hop] = Witness()
            following = await self.mesh.channel(hop, STRICT, emit=witness)
            self.channels[hop] = following
        self.echo = EchoStub(following)
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.mesh.__aexit__(*why)

    async def ask(self, count: int, timeout: float = 5.0) -> Counter[str]:
        """What became of so many calls."""
        found: Counter[str] = Counter()
        for _ in range(count):
            try:
                await self.echo.Say(Text(text="x"), timeout=timeout)
                found["OK"] += 1
            except grpc.aio.AioRpcError as error:
                info = error_info(from_trailing(tuple(error.trailing_metadata() or ())))
                found[f"{error.code().name} {info.reason if info else ''}"] += 1
        return found

    def blamed(self, hop: str) -> bool:
        """Whether a server of that hop was left out by who asks it."""
        ejected = self.witness[hop].all(EndpointEjected)
        opened = [each for each in self.channels[hop].circuits() if each.state is not State.CLOSED]
        return bool(ejected or opened)


@pytest.mark.parametrize("failure", [OUTAGE, CORRUPT])
async def test_an_outage_of_the_last_service_blames_nobody_in_the_middle(failure) -> None:
    async with Chain() as chain:
        assert await chain.ask(8) == {"OK": 8}
        chain.last.failure = failure
        found = await chain.ask(40)
        assert found["OK"] == 0
        assert chain.blamed("payments"), "who fails is left out"
        assert not chain.blamed("orders")
        assert not chain.blamed("edge")

        # What the middle does without payments it still does, and every instance of it.
        answered = {
            each.text for _ in range(40) async for each in chain.echo.Count(Text(), timeout=5.0)
        }
        assert answered == {"edge-1", "edge-2"}

        chain.last.failure = None
        async with asyncio.timeout(20):
            while (await chain.ask(1))["OK"] == 0:
                await asyncio.sleep(0.05)
        # Nothing stands between the callers and the end any more but the last hop's own recovery.
        assert not chain.blamed("orders")
        assert not chain.blamed("edge")


async def test_a_last_service_that_hangs_blames_nobody_in_the_middle() -> None:
    """Each hop keeps back a little of what is left, so that the edge still answers in time."""
    async with Chain() as chain:
        assert await chain.ask(4) == {"OK": 4}
        chain.last.hangs = True
        found = await chain.ask(4, timeout=1.2)
        assert set(found) <= {
            "DEADLINE_EXCEEDED DOWNSTREAM_DEADLINE_EXCEEDED",
            "UNAVAILABLE CIRCUIT_OPEN",
        }, found
        assert chain.blamed("payments")
        assert not chain.blamed("orders")
        assert not chain.blamed("edge")


async def test_a_server_that_alone_has_lost_its_way_gets_less_and_is_not_ejected() -> None:
    """It fails faster than its peer answers; least request must not make it everyone's choice."""
    witness = Witness()

    class Alone(Echo):
        def __init__(self, name: str) -> None:
            self.name, self.asked = name, 0

        async def Say(self, request, context):
            self.asked += 1
            if self.name == "lost":
                raise StatusError(
                    Code.UNAVAILABLE, "", reason="DOWNSTREAM_UNAVAILABLE", domain="proxyless"
                )
            await asyncio.sleep(0.01)
            return request

    lost, well = Alone("lost"), Alone("well")
    async with Mesh() as mesh:
        for servicer in (lost, well):
            await mesh.serve("orders", [servicer], instance=servicer.name)
        echo = EchoStub(await mesh.channel("orders", STRICT, emit=witness))

        async def caller() -> None:
            for _ in range(50):
                with suppress(grpc.aio.AioRpcError):
                    await echo.Say(Text(text="x"), timeout=5.0)

        await asyncio.gather(*(caller() for _ in range(4)))
    assert lost.asked < well.asked, (lost.asked, well.asked)
    assert witness.all(EndpointEjected) == []
