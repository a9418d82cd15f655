"""What is sent again, when, and by which deadline, over real sockets."""

from __future__ import annotations

import asyncio
from time import monotonic

import grpc
import grpc.aio
import pytest

from mesh import Fallback, Hedge, Policy, RoundRobin, detached
from mesh.inbound import INBOUND, Inbound
from tests.loopback.town import KEY, QUICK, Flaky, eventually, method, ready


async def test_a_keyed_call_is_repeated_and_says_how_often(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        assert await method(channel)(b"", metadata=KEY) == b"one"
    previous = [seen.get("grpc-previous-rpc-attempts") for seen in flaky.seen]
    assert previous == [None, "1", "2"]


async def test_a_call_that_may_have_side_effects_is_not_repeated(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "flaky"
    assert len(flaky.seen) == 1


async def test_a_server_that_cancels_is_unavailable_to_the_flow(town):
    await town.open(Flaky("one", grpc.StatusCode.CANCELLED))
    async with town.channel(Policy(retry=QUICK)) as channel:
        assert await method(channel)(b"", metadata=KEY) == b"one"


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_a_stream_is_opened_anew_until_it_answers(town, kind):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        call = method(channel, kind)(
            b"" if kind == "unary_stream" else [b"a", b"b"], metadata=KEY, timeout=5
        )
        if kind == "stream_unary":
            assert await call == b"one"
        else:
            assert await call.read() == b"one"
    assert len(flaky.seen) == 3
    if kind != "unary_stream":
        assert flaky.requests == [[b"a", b"b"]] * 3


async def test_a_written_stream_is_replayed_too(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        call = method(channel, "stream_stream")(metadata=KEY, timeout=5)
        await call.write(b"a")
        await call.write(b"b")
        assert await call.read() == b"one"
        await call.write(b"c")
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert flaky.requests == [[b"a", b"b"], [b"a", b"b", b"c"]]


async def test_more_than_the_buffer_holds_is_not_replayed(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        chunks = [b"x" * 100_000] * 4
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "stream_unary")(chunks, metadata=KEY, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(flaky.seen) == 1


async def test_a_call_to_a_server_that_is_gone_goes_elsewhere_whatever_it_does(town):
    """Connecting failed, so nothing was processed: any call may be sent to another endpoint."""
    await town.open(Flaky("one"))
    await town.open(Flaky("two"))
    async with town.channel(Policy(retry=QUICK, balance=RoundRobin())) as channel:
        await ready(channel, "one", "two")
        await town.stop("one")
        replies = {await method(channel)(b"", timeout=5) for _ in range(20)}
    assert replies == {b"two"}


async def test_the_inbound_deadline_bounds_the_call_less_a_reserve(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel(Policy(reserve=0.1)) as channel:
        token = INBOUND.set(Inbound(deadline=monotonic() + 1.0, traceparent="00-aa-bb-01"))
        try:
            await method(channel)(b"", timeout=30)
            with detached():
                await method(channel)(b"", timeout=30)
        finally:
            INBOUND.reset(token)
    assert 0.7 < flaky.deadlines[0] < 0.95
    assert 29 < flaky.deadlines[1] <= 30.1
    assert [seen.get("traceparent") for seen in flaky.seen] == ["00-aa-bb-01", None]


async def test_the_endless_timeout_of_a_blocking_server_is_no_deadline(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel() as channel:
        assert await method(channel)(b"", timeout=9.223372036854776e18) == b"one"
    assert flaky.deadlines == [None]


async def test_an_attempt_that_is_too_slow_is_made_again(town):
    slow, quick = Flaky("one"), Flaky("two")
    slow.hold = asyncio.Event()
    await town.open(slow)
    await town.open(quick)
    policy = Policy(retry=QUICK, attempt_timeout=0.1, timeout=5.0, balance=RoundRobin())
    async with town.channel(policy) as channel:
        await ready(channel, "one", "two")
        assert {await method(channel)(b"", metadata=KEY) for _ in range(4)} == {b"two"}
        slow.hold.set()


async def test_a_stream_outlives_the_timeouts_of_replies(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel(Policy(timeout=0.2, attempt_timeout=0.1)) as channel:
        call = method(channel, "stream_stream")()
        await call.write(b"a")
        await asyncio.sleep(0.3)
        await call.write(b"b")
        assert await call.read() == b"one"
        call.cancel()


async def test_a_fallback_says_that_it_is_one(town):
    await town.open(Flaky("one", grpc.StatusCode.UNAVAILABLE))
    async with town.channel(Policy(fallback=Fallback(value=b"instead"))) as channel:
        call = method(channel)(b"", timeout=5)
        assert await call == b"instead"
        assert await call.code() is grpc.StatusCode.OK
        assert dict(await call.trailing_metadata()) == {"mesh-fallback": "value"}


async def test_the_second_of_two_hedges_answers_for_a_hung_first(town):
    hung, quick = Flaky("hung"), Flaky("quick")
    hung.hold = asyncio.Event()
    await town.open(hung)
    await town.open(quick)
    policy = Policy(hedge=Hedge(attempts=2, delay=0.02), balance=RoundRobin())
    async with town.channel(policy) as channel:
        await ready(channel, "hung", "quick")
        replies = {await method(channel)(b"", metadata=KEY, timeout=5) for _ in range(4)}
        assert replies == {b"quick"}
        async with asyncio.timeout(5):
            while any(channel.memory.in_flight(name) for name in ("hung", "quick")):
                await asyncio.sleep(0.005)
        hung.hold.set()


async def test_a_call_that_nobody_awaits_is_repeated_all_the_same(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        await channel.channel_ready()
        call = method(channel)(b"", metadata=KEY, timeout=5)
        await eventually(call.done)

        assert await call == b"one"
    assert len(flaky.seen) == 2


async def test_a_call_cancelled_before_anybody_awaits_it_gives_everything_back(town):
    flaky = Flaky("one")
    flaky.hold = asyncio.Event()
    await town.open(flaky)
    async with town.channel(Policy.production()) as channel:
        await ready(channel, "one")
        call = method(channel)(b"", timeout=5)
        in_flight = [member.in_flight for member in channel.memory.pool.members.values()]
        call.cancel()

        assert in_flight == [1]
        assert [member.in_flight for member in channel.memory.pool.members.values()] == [0]
        assert channel.memory.rules.compartments[""].in_flight == 0
        with pytest.raises(asyncio.CancelledError):
            await call
    flaky.hold.set()
