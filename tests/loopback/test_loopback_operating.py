"""What a channel tells an operator, and what it lets them set, over real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import FrozenInstanceError

import grpc
import pytest

import mesh
from mesh import Breaker, Outlier, Policy, State
from tests.loopback.town import Flaky, Town, eventually, method, ready

BROKEN = Policy(breaker=Breaker(failures=2, cooldown=30.0, longest_cooldown=60.0))
CALLED = "/town.Hall/unary_unary"


async def failed(call: grpc.aio.UnaryUnaryCall) -> str:
    """The reason that the mesh gives, or the status that the server gave."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = getattr(caught.value, "error", None)
    return error.reason if error is not None else caught.value.code().name


async def served(channel: mesh.Channel, calls: int = 20) -> Counter[str]:
    return Counter([(await method(channel)(b"", timeout=5)).decode() for _ in range(calls)])


async def test_every_endpoint_is_shown_as_the_channel_knows_it(town: Town) -> None:
    one, port = Flaky("one"), 0
    one.hold = asyncio.Event()
    port = await town.open(one)
    await town.register("gone", 1)  # nobody listens there
    async with town.channel() as channel:
        await ready(channel, "one")
        call = method(channel)(b"", timeout=5)
        await eventually(lambda: one.seen)
        gone, shown = channel.endpoints()

        assert (shown.id, shown.address, shown.health) == ("one", f"127.0.0.1:{port}", "passing")
        assert (shown.ready, shown.in_flight, shown.weight) == (True, 1, 1.0)
        assert (shown.ejected, shown.returns_in, shown.failing) == (False, 0.0, 0)
        assert (gone.id, bool(gone.ready), gone.in_flight) == ("gone", False, 0)
        one.hold.set()
        await call
        assert channel.endpoints()[1].in_flight == 0
        with pytest.raises(FrozenInstanceError):
            shown.in_flight = 5  # type: ignore[misc]


async def test_an_ejected_endpoint_is_shown_with_the_time_it_stays_away(town: Town) -> None:
    await town.open(Flaky("ill", *[grpc.StatusCode.INTERNAL] * 100))
    await town.open(Flaky("well"))
    rule = Outlier(
        consecutive_errors=2, base_ejection_time=30.0, max_ejection_percent=50, interval=60.0
    )
    async with town.channel(Policy(outlier=rule, balance=mesh.RoundRobin())) as channel:
        await ready(channel, "ill", "well")
        for _ in range(6):
            await asyncio.wait([asyncio.ensure_future(method(channel)(b"", timeout=5).code())])
        ill, well = channel.endpoints()

    assert (ill.ejected, well.ejected) == (True, False)
    assert 25.0 < ill.returns_in <= 30.0


async def test_a_circuit_is_shown_open_with_the_time_until_it_asks_again(town: Town) -> None:
    await town.open(Flaky("one", *[grpc.StatusCode.UNAVAILABLE] * 2))
    async with town.channel(BROKEN) as channel:
        assert channel.circuits() == ()
        for _ in range(2):
            assert await failed(method(channel)(b"", timeout=5)) == "UNAVAILABLE"
        (circuit,) = channel.circuits()
        assert (circuit.endpoint, circuit.method, circuit.state) == ("one", CALLED, State.OPEN)
        assert circuit.retry_after is not None
        assert 25.0 < circuit.retry_after <= 30.0

        channel.set_circuit(State.CLOSED, endpoint="one", method=CALLED)
        assert await served(channel, 1) == {"one": 1}
        (circuit,) = channel.circuits()
        assert (circuit.state, circuit.retry_after) == (State.CLOSED, 0.0)


async def test_what_a_window_holds_is_shown(town: Town) -> None:
    await town.open(Flaky("one", grpc.StatusCode.UNAVAILABLE))
    rule = Breaker(failures=None, failure_rate=0.5, window_calls=10, minimum_calls=10)
    async with town.channel(Policy(breaker=rule)) as channel:
        await failed(method(channel)(b"", timeout=5))
        await served(channel, 4)
        (circuit,) = channel.circuits()

    assert (circuit.calls, circuit.failures, circuit.slow) == (5, 1, 0)


async def test_an_endpoint_that_is_forced_open_is_passed_over_until_it_is_given_back(
    town: Town,
) -> None:
    await town.open(Flaky("one"))
    await town.open(Flaky("two"))
    async with town.channel(BROKEN) as channel:
        await ready(channel, "one", "two")
        await served(channel, 1)
        channel.set_circuit(State.FORCED_OPEN, endpoint="one")
        assert await served(channel) == {"two": 20}
        assert {each.endpoint: each.state for each in channel.circuits()} == {
            "one": State.FORCED_OPEN,
            "two": State.CLOSED,
        }
        channel.set_circuit(State.CLOSED)
        assert set(await served(channel)) == {"one", "two"}


async def test_a_method_is_forced_open_on_whoever_comes_later_too(town: Town) -> None:
    await town.open(Flaky("one"))
    async with town.channel(BROKEN) as channel:
        channel.set_circuit(State.FORCED_OPEN, method=CALLED)
        assert await failed(method(channel)(b"", timeout=5)) == "CIRCUIT_OPEN"
        await town.open(Flaky("two"))
        await ready(channel, "one", "two")
        for _ in range(4):
            assert await failed(method(channel)(b"", timeout=5)) == "CIRCUIT_OPEN"
        assert {each.retry_after for each in channel.circuits()} == {None}
        stream = method(channel, "unary_stream")(b"", timeout=5)
        assert [reply async for reply in stream][1:] == [b"end"]

        channel.set_circuit(State.CLOSED)
        channel.set_circuit(State.FORCED_OPEN, endpoint="two")
        assert await served(channel) == {"one": 20}


async def test_a_circuit_that_is_switched_off_lets_everything_through(town: Town) -> None:
    await town.open(Flaky("one", *[grpc.StatusCode.UNAVAILABLE] * 5))
    async with town.channel(BROKEN) as channel:
        channel.set_circuit(State.DISABLED)
        for _ in range(5):
            assert await failed(method(channel)(b"", timeout=5)) == "UNAVAILABLE"
        assert await served(channel, 1) == {"one": 1}


async def test_what_cannot_be_set_is_named(town: Town) -> None:
    async with town.channel(BROKEN) as channel:
        with pytest.raises(mesh.PolicyError, match=r"circuit\.endpoint: 'nobody' is not an end"):
            channel.set_circuit(State.CLOSED, endpoint="nobody")
        with pytest.raises(mesh.PolicyError, match=r"circuit\.state: 'OPEN' is not one of CLOSED"):
            channel.set_circuit(State.OPEN)
        channel.policy = Policy()
        with pytest.raises(mesh.PolicyError, match=r"circuit\.method: '/a/b' has no breaker"):
            channel.set_circuit(State.CLOSED, method="/a/b")


async def test_a_channel_that_blocks_shows_and_sets_the_same(town: Town) -> None:
    await town.open(Flaky("one"))

    def work() -> None:
        with mesh.SyncChannel("town", BROKEN, registry=town.registry) as channel:
            assert method(channel)(b"", timeout=5) == b"one"
            (endpoint,), (circuit,) = channel.endpoints(), channel.circuits()
            assert (endpoint.id, endpoint.ready, endpoint.in_flight) == ("one", True, 0)
            assert (circuit.endpoint, circuit.state) == ("one", State.CLOSED)
            channel.set_circuit(State.FORCED_OPEN)
            with pytest.raises(grpc.RpcError) as caught:
                method(channel)(b"", timeout=5)
            assert caught.value.error.reason == "CIRCUIT_OPEN"
            channel.set_circuit(State.CLOSED)
            assert method(channel)(b"", timeout=5) == b"one"

    await asyncio.to_thread(work)
