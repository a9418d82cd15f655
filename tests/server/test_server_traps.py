"""Where grpcio leads toy servers astray, over real sockets: one test a trap."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.errors import Code, StatusError
from mesh.server import Limits, Server
from mesh.status import from_error
from tests.server.echo import Echo, EchoStub, Text
from tests.server.serving import REFUSED, Serving, failure


class Blocking(Echo):
    """One thread answers; Count yields whenever it is asked to."""

    def __init__(self) -> None:
        self.left: list[float | None] = []

    def Say(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        self.left.append(context.time_remaining())
        return request

    def Count(self, request: Any, context: Any) -> Any:
        for number in range(request.number):
            yield Text(number=number, text="x" * 1000)


async def test_quiet_streams_hold_no_thread_of_a_blocking_servicer() -> None:
    """grpc's own blocking server starves when as many watch its health as it has threads."""
    async with (
        asyncio.timeout(20),
        Server("echo", [Blocking()], limits=Limits(threads=1)).serving() as address,
        AsyncExitStack() as stack,
    ):
        # One connection takes a hundred streams, and grpc would share it.
        own = [("grpc.use_local_subchannel_pool", 1)]
        for _ in range(2):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, own))
            watch = health_pb2_grpc.HealthStub(channel).Watch
            for _ in range(20):
                health = watch(health_pb2.HealthCheckRequest())
                assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
                # One message is read; then the window fills, and the generator is not asked.
                slow = EchoStub(channel).Count(Text(number=100_000))
                await slow.read()
                stack.callback(slow.cancel)
                stack.callback(health.cancel)
        said = await EchoStub(channel).Say(Text(text="in time"), timeout=10)

    assert said.text == "in time"


async def test_a_blocking_handler_without_deadline_is_told_none_and_not_three_centuries() -> None:
    blocking = Blocking()
    async with Serving(blocking) as echo:
        await echo.Say(Text())
        await echo.Say(Text(), timeout=5.0)

    assert blocking.left[0] is None
    assert 4.0 < (blocking.left[1] or 0.0) <= 5.1


class AfterReplying(Echo):
    """Fails when its answer, or a part of it, is on the way already."""

    async def Count(self, request: Any, context: Any) -> Any:
        yield Text(text="reply")
        if request.text == "abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "torn")
        raise REFUSED

    async def Chat(self, requests: Any, context: Any) -> Any:
        async for each in requests:
            yield each
        raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("Count", "", (Code.FAILED_PRECONDITION, "OUT_OF_STOCK")),
        ("Count", "abort", (Code.DATA_LOSS, "DATA_LOSS")),
        ("Chat", "", (Code.INTERNAL, "INTERNAL")),
    ],
)
async def test_who_fails_after_replying_has_replied_and_failed(
    kind: str, text: str, expected: tuple[Code, str]
) -> None:
    async with asyncio.timeout(10), Serving(AfterReplying()) as echo:
        request = Text(text=text)
        call = echo.Count(request) if kind == "Count" else echo.Chat(iter([request]))
        first = await call.read()
        error = from_error(await failure(call.read()))

    assert first.text == ("reply" if kind == "Count" else text)
    assert (error.code, error.reason) == expected
    assert "secret" not in error.message


async def test_a_handler_that_fails_when_its_caller_has_gone_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()

    class Stubborn(Echo):
        async def Say(self, request: Any, context: Any) -> Any:
            if request.text == "stay":
                return request
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.set()
                raise StatusError(
                    Code.ABORTED, "too late", reason="TOO_LATE", domain="test"
                ) from None

    async with asyncio.timeout(10), Serving(Stubborn()) as echo:
        await failure(echo.Say(Text(), timeout=0.1))
        await ended.wait()
        assert (await echo.Say(Text(text="stay"))).text == "stay"
    assert [each.getMessage() for each in caplog.records] == []
