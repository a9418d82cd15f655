"""What a caller of mesh.Server sees: all four kinds of calls, every error as a rich status."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from mesh.errors import BulkheadFull, CallFailed, CircuitOpen, Code, StatusError
from mesh.inbound import INBOUND, Inbound
from mesh.server import Limits, Server
from mesh.server.status import detail, error_info, from_error, from_trailing, retry_after
from mesh.store import StoreBusy, StoreError
from tests.server.echo import SERVICE, Echo, EchoStub, Text


class Raises(Echo):
    """Raises what it was given, from every kind of rpc."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def Say(self, request, context):
        raise self.error

    async def Count(self, request, context):
        yield request
        raise self.error

    async def Gather(self, requests, context):
        raise self.error

    async def Chat(self, requests, context):
        raise self.error
        yield


class Serving:
    """One server and a stub to it."""

    def __init__(self, servicer: object, **options: Any) -> None:
        self._server = Server("echo", [servicer], **options)

    async def __aenter__(self) -> EchoStub:
        self._serving = self._server.serving()
        address = await self._serving.__aenter__()
        # As under a mesh channel; with them C-core strips grpc-previous-rpc-attempts.
        options = [("grpc.enable_retries", 0)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        return EchoStub(self._channel)

    async def __aexit__(self, *why: Any) -> None:
        await self._channel.close()
        await self._serving.__aexit__(*why)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


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


REFUSED = StatusError(
    Code.FAILED_PRECONDITION,
    "no stock",
    reason="OUT_OF_STOCK",
    domain="shop",
    metadata={"product_id": "p-1"},
    fields=[("items[0]", "is sold out")],
    retry_after=1.5,
    details=[error_details_pb2.RequestInfo(request_id="r-1")],
)


def downstream(code: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode[code],
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details="secret address 10.0.0.9",
    )


INTERNAL = "INTERNAL proxyless/INTERNAL: internal error"
RAISED = [
    (REFUSED, "FAILED_PRECONDITION shop/OUT_OF_STOCK: no stock"),
    (CircuitOpen(2.0), "UNAVAILABLE proxyless/CIRCUIT_OPEN"),
    (BulkheadFull("64 in flight"), "UNAVAILABLE proxyless/BULKHEAD_FULL: 64 in flight"),
    (downstream("UNAVAILABLE"), "UNAVAILABLE proxyless/DOWNSTREAM_UNAVAILABLE"),
    (downstream("CANCELLED"), "UNAVAILABLE proxyless/DOWNSTREAM_CANCELLED"),
    (downstream("DEADLINE_EXCEEDED"), "DEADLINE_EXCEEDED proxyless/DOWNSTREAM_DEADLINE_EXCEEDED"),
    (
        downstream("RESOURCE_EXHAUSTED"),
        "RESOURCE_EXHAUSTED proxyless/DOWNSTREAM_RESOURCE_EXHAUSTED",
    ),
    (downstream("ABORTED"), "ABORTED proxyless/DOWNSTREAM_ABORTED"),
    (downstream("NOT_FOUND"), INTERNAL),
    (downstream("INVALID_ARGUMENT"), INTERNAL),
    (downstream("UNKNOWN"), INTERNAL),
    (CallFailed(Code.UNAVAILABLE, "secret"), "UNAVAILABLE proxyless/DOWNSTREAM_UNAVAILABLE"),
    (CallFailed(Code.NOT_FOUND, "secret"), INTERNAL),
    (StoreError("/secret/orders.db", "disk is full"), INTERNAL),
    (StoreBusy("/secret/orders.db", "locked"), "UNAVAILABLE proxyless/STORE_BUSY: temporarily"),
    (ValueError("secret password"), INTERNAL),
    (TimeoutError(), INTERNAL),
]


@pytest.mark.parametrize(("error", "expected"), RAISED)
@pytest.mark.parametrize("kind", ["Say", "Count", "Gather", "Chat"])
async def test_what_a_handler_raises_arrives_as_a_rich_status(kind, error, expected, caplog):
    caplog.set_level(logging.CRITICAL, "mesh.server")
    async with Serving(Raises(error)) as echo:
        call = getattr(echo, kind)
        made = call(iter([Text()])) if kind in ("Gather", "Chat") else call(Text())
        said = await failure(made if kind in ("Say", "Gather") else drained(made))
    info = error_info(from_trailing(tuple(said.trailing_metadata())))
    status = f"{said.code().name} {info.domain}/{info.reason}: {said.details()}"
    assert status.startswith(expected)
    assert "secret" not in status


async def drained(call: Any) -> list[Any]:
    return [each async for each in call]


async def test_a_status_error_travels_whole_and_back():
    async with Serving(Raises(REFUSED)) as echo:
        said = await failure(echo.Say(Text()))
    status = from_trailing(tuple(said.trailing_metadata()))
    assert status.code == said.code().value[0]
    assert status.message == said.details()
    assert retry_after(status) == 1.5
    assert detail(status, error_details_pb2.RequestInfo).request_id == "r-1"

    back = from_error(said)
    assert (back.code, back.message, back.reason, back.domain) == (
        Code.FAILED_PRECONDITION,
        "no stock",
        "OUT_OF_STOCK",
        "shop",
    )
    assert back.fields == (("items[0]", "is sold out"),)
    assert back.metadata == {"product_id": "p-1"}
    assert back.retry_after == 1.5


async def test_the_meshs_own_reason_passes_through_a_service_in_between():
    async with Serving(Raises(CircuitOpen(2.0))) as inner:

        class Between(Echo):
            async def Say(self, request, context):
                return await inner.Say(request)

        async with Serving(Between()) as outer:
            said = from_error(await failure(outer.Say(Text())))
    assert (said.code, said.reason, said.retry_after) == (Code.UNAVAILABLE, "CIRCUIT_OPEN", 2.0)


async def test_an_unexpected_error_is_logged_with_its_traceback(caplog):
    async with Serving(Raises(ValueError("only for the log"))) as echo:
        await failure(echo.Say(Text()))
    record = next(each for each in caplog.records if each.name == "mesh.server")
    assert record.exc_info[1].args == ("only for the log",)


async def test_a_handlers_own_abort_stays_as_it_is():
    class Aborts(Echo):
        async def Say(self, request, context):
            context.set_trailing_metadata((("who", "handler"),))
            await context.abort(grpc.StatusCode.NOT_FOUND, "not here")

    async with Serving(Aborts()) as echo:
        said = await failure(echo.Say(Text()))
    assert (said.code().name, said.details()) == ("NOT_FOUND", "not here")
    assert ("who", "handler") in tuple(said.trailing_metadata())


async def test_trailing_metadata_set_before_an_error_is_kept():
    class Sets(Echo):
        async def Say(self, request, context):
            context.set_trailing_metadata((("who", "handler"),))
            raise REFUSED

    async with Serving(Sets()) as echo:
        said = await failure(echo.Say(Text()))
    assert ("who", "handler") in tuple(said.trailing_metadata())
    assert from_error(said).reason == "OUT_OF_STOCK"


async def test_a_status_too_large_for_trailers_loses_details_but_never_its_reason():
    many = StatusError(
        Code.INVALID_ARGUMENT,
        "x" * 5000,
        reason="MANY",
        domain="shop",
        fields=[(f"items[{n}]", "is wrong" * 10) for n in range(500)],
    )
    async with Serving(Raises(many)) as echo:
        said = from_error(await failure(echo.Say(Text())))
    assert (said.code, said.reason) == (Code.INVALID_ARGUMENT, "MANY")


@pytest.mark.parametrize(
    ("request_", "field", "count"),
    [
        (Text(number=-1), "number", 1),
        (Text(items=[Text(), Text(number=-1)]), "items[1].number", 1),
        (Text(number=-1, text="x" * 1001), "text", 2),
    ],
)
async def test_an_invalid_request_names_its_fields(request_, field, count):
    async with Serving(Echo()) as echo:
        said = from_error(await failure(echo.Say(request_)))
    assert (said.code, said.reason, said.domain) == (
        Code.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "proxyless",
    )
    assert said.fields[0][0] == field
    assert len(said.fields) == count
    assert said.message.startswith(field)


async def test_every_message_of_a_stream_is_validated():
    class Reads(Echo):
        async def Gather(self, requests, context):
            while await context.read() is not grpc.aio.EOF:
                pass
            return Text()

    bad = [Text(text="fine"), Text(number=-1)]
    async with Serving(Echo()) as echo:
        said = from_error(await failure(echo.Gather(iter(bad))))
        assert said.fields[0][0] == "number"
        chat = echo.Chat(iter(bad))
        assert (await chat.read()).text == "fine"
        said = from_error(await failure(chat.read()))
        assert said.fields[0][0] == "number"
    async with Serving(Reads()) as echo:
        said = from_error(await failure(echo.Gather(iter(bad))))
        assert said.fields[0][0] == "number"


async def test_validation_can_be_turned_off():
    async with Serving(Echo(), validate=False) as echo:
        assert (await echo.Say(Text(number=-1))).number == -1


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
