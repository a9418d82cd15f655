"""Every error of a handler arrives as a rich status, and no text that was not meant for callers."""

from __future__ import annotations

import logging

import grpc
import pytest
from google.rpc import error_details_pb2

from mesh.errors import BulkheadFull, CallFailed, CircuitOpen, Code, StatusError
from mesh.server.refusal import draining
from mesh.status import (
    detail,
    error_info,
    from_error,
    from_status,
    from_trailing,
    retry_after,
    to_status,
    to_trailing,
)
from mesh.store import StoreBusy, StoreError
from tests.server.echo import Echo, Text
from tests.server.serving import REFUSED, Serving, drained, failure


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


def downstream(code: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode[code],
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details="secret address 10.0.0.9",
    )


def relayed(error):
    """A failed call to another server, which answered so."""
    return CallFailed(error.code, "secret", trailing=to_trailing(error))


def as_received(error):
    """The same as a handler raises it that wants to pass it on as it came."""
    return from_status(to_status(error))


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
    (downstream("UNKNOWN"), "INTERNAL proxyless/DOWNSTREAM_UNKNOWN: internal error"),
    (downstream("DATA_LOSS"), "INTERNAL proxyless/DOWNSTREAM_DATA_LOSS: internal error"),
    # What another server says of itself is not said in this one's name, however it is raised.
    (relayed(draining()), "UNAVAILABLE proxyless/DOWNSTREAM_UNAVAILABLE: a service needed"),
    (as_received(draining()), "UNAVAILABLE proxyless/DOWNSTREAM_UNAVAILABLE: a service needed"),
    (relayed(CircuitOpen(2.0)), "UNAVAILABLE proxyless/CIRCUIT_OPEN: a service needed"),
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
        # Nothing is written: an answer meanwhile grpc.aio turns into an INTERNAL of its own.
        made = call() if kind in ("Gather", "Chat") else call(Text())
        said = await failure(made if kind in ("Say", "Gather") else drained(made))
    info = error_info(from_trailing(tuple(said.trailing_metadata())))
    status = f"{said.code().name} {info.domain}/{info.reason}: {said.details()}"
    assert status.startswith(expected)
    assert "secret" not in status


class NotThere(Echo):
    """As generated code has it for methods that a servicer lacks."""

    def Say(self, request, context):
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")

    Count = Gather = Chat = Say


class Stumbles(Echo):
    async def Say(self, request, context):
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("no such text")
        raise KeyError("secret")

    def Gather(self, requests, context):
        context.set_code(grpc.StatusCode.DATA_LOSS)
        raise ValueError("secret")


async def test_what_a_handler_has_said_before_it_failed_is_its_status():
    """On a plain server too: and with that what a servicer does not have is UNIMPLEMENTED."""
    async with Serving(NotThere()) as echo:
        lacking = [await failure(call) for call in (echo.Say(Text()), echo.Gather())]
        lacking.append(await failure(drained(echo.Count(Text()))))
    async with Serving(Stumbles()) as echo:
        stumbling = [await failure(echo.Say(Text())), await failure(echo.Gather())]

    assert {(each.code().name, each.details()) for each in lacking} == {
        ("UNIMPLEMENTED", "Method not implemented!")
    }
    assert [(each.code().name, each.details()) for each in stumbling] == [
        ("NOT_FOUND", "no such text"),
        ("DATA_LOSS", "data loss"),
    ]
    reasons = [error_info(from_trailing(tuple(e.trailing_metadata()))).reason for e in stumbling]
    assert reasons == ["NOT_FOUND", "DATA_LOSS"]


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
