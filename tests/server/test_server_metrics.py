"""What a server counts: every call by gRPC's own names, refusals and unknown methods too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

import discovery
from mesh.errors import Code, StatusError
from mesh.server import Server
from mesh.telemetry.figures import Figures
from mesh.telemetry.metrics import LATENCY
from scripts.stage.preflight import free_port
from tests.server.echo import EchoServicer, EchoStub, Text
from tests.server.serving import Serving, drained, failure

SERVICE = "test.echo.v1.EchoService"


class Echo(EchoServicer):
    """Does what the text says."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def Say(self, request: Any, context: Any) -> Any:
        self.entered.set()
        match request.text:
            case "refuse":
                raise StatusError(Code.NOT_FOUND, "no", reason="NONE", domain="test")
            case "break":
                raise RuntimeError("secret")
            case "abort":
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there")
            case "wait":
                await asyncio.sleep(30)
        return request

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(3):
            yield request
        if request.text == "refuse":
            raise StatusError(Code.ABORTED, "no", reason="NONE", domain="test")

    async def Gather(self, requests: Any, context: Any) -> Any:
        return Text(text=str(len([each async for each in requests])))


def counted(figures: Figures) -> dict[tuple[str, str], int]:
    """How many calls ended, by method and status."""
    series = figures.instruments["grpc.server.call.duration"].series
    return {
        (method.rpartition("/")[2], status): int(sum(numbers[:-1]))
        for (method, status), numbers in series.items()
    }


async def test_every_call_is_counted_by_its_method_and_its_final_status() -> None:
    figures, echo = Figures(), Echo()
    async with Serving(echo, figures=figures) as stub:
        await stub.Say(Text(text="hello"))
        for text in ("refuse", "break", "abort"):
            await failure(stub.Say(Text(text=text)))
        await failure(stub.Say(Text(number=-1)))  # breaks a rule: the handler never sees it
        await drained(stub.Count(Text()))
        with pytest.raises(grpc.aio.AioRpcError):
            await drained(stub.Count(Text(text="refuse")))
        await stub.Gather(iter([Text(), Text()]))
        started = dict(figures.instruments["grpc.server.call.started"].series)

    assert counted(figures) == {
        ("Say", "OK"): 1,
        ("Say", "NOT_FOUND"): 1,
        ("Say", "INTERNAL"): 1,
        ("Say", "ALREADY_EXISTS"): 1,
        ("Say", "INVALID_ARGUMENT"): 1,
        ("Count", "OK"): 1,
        ("Count", "ABORTED"): 1,
        ("Gather", "OK"): 1,
    }
    assert started[f"{SERVICE}/Say",] == [5]
    assert figures.instruments["grpc.server.call.duration"].bounds == LATENCY


async def test_a_caller_that_gives_up_and_a_deadline_are_told_apart() -> None:
    figures, echo = Figures(), Echo()
    async with Serving(echo, figures=figures) as stub:
        await failure(stub.Say(Text(text="wait"), timeout=0.2))
        async with asyncio.timeout(5):
            while not counted(figures):
                await asyncio.sleep(0.01)
        echo.entered.clear()
        call = stub.Say(Text(text="wait"))
        waiting = asyncio.ensure_future(call.wait_for_connection())
        await asyncio.wait_for(echo.entered.wait(), 5)
        call.cancel()
        waiting.cancel()
        async with asyncio.timeout(5):
            while len(counted(figures)) < 2:
                await asyncio.sleep(0.01)

    assert counted(figures) == {("Say", "DEADLINE_EXCEEDED"): 1, ("Say", "CANCELLED"): 1}


async def test_methods_that_somebody_made_up_are_one() -> None:
    figures = Figures()
    server = Server("echo", [Echo()], figures=figures)
    async with server.serving() as address, grpc.aio.insecure_channel(address) as channel:
        for number in range(20):
            error = await failure(channel.unary_unary(f"/made.Up/Method{number}")(b""))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED

    assert counted(figures) == {("other", "UNIMPLEMENTED"): 20}


async def test_a_server_that_runs_shows_its_figures_where_it_is_told() -> None:
    port, ready = free_port(), asyncio.Event()
    addresses: list[str] = []

    def started(address: str) -> None:
        addresses.append(address)
        ready.set()

    async with discovery.connect("memory://metrics") as registry:
        server = Server("echo", [Echo()], registry=registry)
        running = asyncio.ensure_future(
            server.run(started=started, metrics=("127.0.0.1", port), drain_seconds=0.0)
        )
        await asyncio.wait_for(ready.wait(), 10)
        async with grpc.aio.insecure_channel(addresses[0]) as channel:
            await EchoStub(channel).Say(Text(text="hello"))
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            text = await response.text()
        server.shutdown()
        await asyncio.wait_for(running, 20)

    assert f'grpc_server_call_started_total{{grpc_method="{SERVICE}/Say"}} 1.0' in text
