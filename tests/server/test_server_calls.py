"""What a caller and a handler see of a call to mesh.Server, in all four kinds."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import pytest

from mesh.inbound import INBOUND, Inbound
from mesh.server import Limits, Server
from mesh.status import from_error
from tests.server.echo import SERVICE, Echo, Text
from tests.server.serving import REFUSED, Serving, drained, failure


async def test_all_four_kinds_answer():
    async with Serving(Echo()) as echo:
        assert (await echo.Say(Text(text="a"))).text == "a"
        assert [each.number async for each in echo.Count(Text(number=3))] == [0, 1, 2]
        assert (await echo.Gather(iter([Text(text="a"), Text(text="b")]))).text == "ab"
        chat = echo.Chat(iter([Text(text="a"), Text(text="b")]))
        assert [each.text async for each in chat] == ["a", "b"]


async def test_an_unknown_method_is_unimplemented():
    async with (
        Server("echo", [Echo()]).serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        error = await failure(channel.unary_unary(f"/{SERVICE}/Nope")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_handler_that_writes_instead_of_yielding_is_served_too():
    class Writes(Echo):
        async def Count(self, request, context):
            await context.write(Text(number=1))
            await context.write(Text(number=2))
            if request.text:
                raise REFUSED

    async with Serving(Writes()) as echo:
        assert [each.number async for each in echo.Count(Text())] == [1, 2]
        call = echo.Count(Text(text="fail"))
        assert (await call.read()).number == 1
        assert (await call.read()).number == 2
        assert from_error(await failure(call.read())).reason == "OUT_OF_STOCK"


async def test_the_handler_inherits_deadline_trace_criticality_and_attempts():
    seen: list[Inbound | None] = []

    class Looks(Echo):
        async def Say(self, request, context):
            seen.append(INBOUND.get())
            return request

        async def Count(self, request, context):
            seen.append(INBOUND.get())
            yield request
            seen.append(INBOUND.get())

    metadata = (
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-mesh-criticality", "sheddable"),
        ("grpc-previous-rpc-attempts", "2"),
    )
    async with Serving(Looks()) as echo:
        before = time.monotonic()
        await echo.Say(Text(), timeout=5.0, metadata=metadata)
        await echo.Say(Text(), metadata=(("grpc-previous-rpc-attempts", "many"),))
        await drained(echo.Count(Text(), timeout=5.0))

    first, plain, *streamed = seen
    assert first.traceparent == metadata[0][1]
    assert (first.criticality, first.previous_attempts) == ("sheddable", 2)
    assert 4.5 < first.deadline - before < 5.5
    assert plain == Inbound()
    assert [each.deadline is not None for each in streamed] == [True, True]
    assert INBOUND.get() is None


async def test_a_call_with_less_than_the_floor_left_never_reaches_the_handler():
    reached: list[str] = []

    class Notes(Echo):
        async def Say(self, request, context):
            reached.append(request.text)
            return request

    async with Serving(Notes(), limits=Limits(deadline_floor=30.0)) as echo:
        said = await failure(echo.Say(Text(text="late"), timeout=20.0))
        await echo.Say(Text(text="no deadline"))
        await echo.Say(Text(text="plenty"), timeout=60.0)
    assert said.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert from_error(said).reason == "DEADLINE_SPENT"
    assert reached == ["no deadline", "plenty"]


async def test_a_handler_is_cancelled_at_its_deadline_and_when_the_client_leaves():
    ended: asyncio.Queue[float] = asyncio.Queue()
    begun = asyncio.Event()

    class Sleeps(Echo):
        async def Say(self, request, context):
            start = time.monotonic()
            begun.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                ended.put_nowait(time.monotonic() - start)
                raise

    async with Serving(Sleeps()) as echo:
        await failure(echo.Say(Text(), timeout=0.2))
        assert await asyncio.wait_for(ended.get(), 5) < 2.0
        begun.clear()
        call = echo.Say(Text())
        waiting = asyncio.ensure_future(call.code())
        await asyncio.wait_for(begun.wait(), 5)
        call.cancel()
        assert await asyncio.wait_for(ended.get(), 5) < 2.0
        await waiting


async def test_blocking_servicers_serve_all_four_kinds_and_their_errors():
    seen: list[Inbound | None] = []
    closed: list[str] = []

    class Blocking(Echo):
        def Say(self, request, context):
            seen.append(INBOUND.get())
            if request.text == "fail":
                raise REFUSED
            if request.text == "abort":
                context.abort(grpc.StatusCode.NOT_FOUND, "not here")
            context.send_initial_metadata((("who", "thread"),))
            return request

        def Count(self, request, context):
            try:
                for number in range(request.number):
                    yield Text(number=number)
                if request.text == "fail":
                    raise REFUSED
            finally:
                closed.append("closed")

        def Gather(self, requests, context):
            return Text(text="".join(each.text for each in requests))

        def Chat(self, requests, context):
            yield from requests

    async with Serving(Blocking()) as echo:
        call = echo.Say(Text(text="a"), timeout=5.0)
        assert (await call).text == "a"
        assert ("who", "thread") in tuple(await call.initial_metadata())
        assert seen[0].deadline is not None
        assert (await failure(echo.Say(Text(text="abort")))).details() == "not here"
        assert from_error(await failure(echo.Say(Text(text="fail")))).reason == "OUT_OF_STOCK"
        assert [each.number async for each in echo.Count(Text(number=3))] == [0, 1, 2]
        said = await failure(drained(echo.Count(Text(number=1, text="fail"))))
        assert from_error(said).reason == "OUT_OF_STOCK"
        assert (await echo.Gather(iter([Text(text="a"), Text(text="b")]))).text == "ab"
        chat = echo.Chat(iter([Text(text="a"), Text(text="b")]))
        assert [each.text async for each in chat] == ["a", "b"]
        said = from_error(await failure(echo.Gather(iter([Text(number=-1)]))))
        assert said.reason == "INVALID_REQUEST"
    assert closed == ["closed", "closed"]


def test_a_servicer_without_a_contract_is_refused_by_name():
    class Plain:
        pass

    with pytest.raises(TypeError, match=r"Plain is no servicer"):
        Server("echo", [Plain()])


def test_one_service_cannot_be_served_twice():
    with pytest.raises(ValueError, match=r"test.echo.v1.EchoService is served twice"):
        Server("echo", [Echo(), Echo()])


async def test_a_blocking_generator_learns_that_its_client_left_and_is_closed():
    closed, told = threading.Event(), threading.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Blocking(Echo):
        def Count(self, request, context):
            assert context.add_callback(told.set)
            try:
                yield request
                loop.call_soon_threadsafe(begun.set)
                while context.is_active():
                    closed.wait(0.01)
                yield request
            finally:
                closed.set()

    async with Serving(Blocking()) as echo:
        call = echo.Count(Text())
        await call.read()
        await asyncio.wait_for(begun.wait(), 5)
        assert not closed.is_set()
        call.cancel()
        assert await asyncio.to_thread(closed.wait, 5)
        assert await asyncio.to_thread(told.wait, 5)
