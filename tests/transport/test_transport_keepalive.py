"""Silence on a connection: it is asked after, found, and not asked after without need."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket

import grpc
import grpc.aio
import pytest
import uvloop

from mesh.client.http2 import Http2Channel
from mesh.errors import Processed
from mesh.testing.network import Network
from mesh.transport import frames
from mesh.transport.frames import ErrorCode
from tests.transport import served
from tests.transport.saying import answer, goaway, settings, window_update
from tests.transport.scripted import scripted
from tests.transport.served import ECHO, HANG, Echo
from tests.transport.waiting import LIVELY, QUICKLY, failure, until, within


async def test_a_silent_peer_is_found_by_keepalive() -> None:
    echo = Echo()
    # A server of grpc's own defaults takes two pings in five minutes.
    patient = (("grpc.http2.max_ping_strikes", 0),)
    async with served.aio(echo, options=patient) as address, Network() as network:
        link = network.link(address)
        async with Http2Channel(link.address, LIVELY) as channel:
            call = channel.unary_unary(HANG)(b"")
            await until(lambda: echo.calls == 1)
            # Its answers to PING keep it alive for as long as it likes.
            await asyncio.sleep(0.6)
            assert not call.done()
            link.set(blackhole=True)
            began = asyncio.get_running_loop().time()
            error = await failure(call)
            took = asyncio.get_running_loop().time() - began

            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "keepalive" in error.details()
            assert error.processed is Processed.UNKNOWN
            assert 0.15 < took < 5.0
            link.set(blackhole=False)
            assert await within(channel.unary_unary(ECHO)(b"again", wait_for_ready=True))


async def test_an_answer_within_one_tick_of_the_clock_is_a_sign_of_life() -> None:
    """uvloop's clock has milliseconds, and a server on this host answers within one."""

    async def asked_often() -> tuple[int, bool]:
        often = (("grpc.keepalive_time_ms", 20), ("grpc.keepalive_timeout_ms", 300))
        async with (
            scripted(lambda n: b"") as server,
            Http2Channel(server.address, often) as channel,
        ):
            call = channel.unary_unary(HANG)(b"")
            async with asyncio.timeout(20):
                while server.pings < 4 and not call.done():
                    await asyncio.sleep(0.01)
            return server.connections, call.done()

    assert await asyncio.to_thread(lambda: uvloop.run(asked_often())) == (1, False)


async def test_a_stopped_process_is_found_and_found_again() -> None:
    async with (
        served.process() as (address, child),
        Http2Channel(address, LIVELY) as channel,
    ):
        echo = channel.unary_unary(ECHO)
        assert await within(echo(b"1")) == b"<1>"
        child.send_signal(signal.SIGSTOP)
        try:
            error = await failure(echo(b"2"))
        finally:
            child.send_signal(signal.SIGCONT)

        assert "keepalive" in error.details()
        assert await within(echo(b"3", wait_for_ready=True)) == b"<3>"


async def test_nobody_is_asked_for_a_sign_of_life_without_calls() -> None:
    """A8: pings without calls are what servers answer with too_many_pings."""
    asked: list[int] = []

    def says(number: int) -> bytes:
        asked.append(number)
        return answer(number, b"x")

    async with scripted(says) as server, Http2Channel(server.address, LIVELY) as channel:
        await within(channel.unary_unary(ECHO)(b""))
        await asyncio.sleep(1.0)

        assert (server.connections, server.pings) == (1, 0)
        assert await within(channel.unary_unary(ECHO)(b"")) == b"x"
        assert server.connections == 1


async def test_too_many_pings_makes_them_half_as_many(caplog: pytest.LogCaptureFixture) -> None:
    said = goaway(0, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
    async with scripted(lambda n: said) as server, Http2Channel(server.address, LIVELY) as channel:
        with caplog.at_level(logging.WARNING):
            error = await failure(channel.unary_unary(ECHO)(b""))

        assert error.processed is Processed.REFUSED
        assert "too many pings" in caplog.text
        assert channel.subchannel._keepalive_time == pytest.approx(0.4)


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    options = (*QUICKLY, ("grpc.min_reconnect_backoff_ms", 200))
    # The kernel accepts for it.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with Http2Channel(address, options) as channel:
            error = await failure(channel.unary_unary(ECHO)(b""))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == f"no connection to {address}: no HTTP/2 within 0.2 s"
    assert error.processed is Processed.NO


async def test_bytes_that_nobody_takes_end_a_connection_long_before_a_ping_is_due() -> None:
    """A18: with TCP_USER_TIMEOUT the kernel says so; by default a ping is due after 310 s."""
    options = (*QUICKLY, ("grpc.keepalive_time_ms", 300_000), ("grpc.keepalive_timeout_ms", 1_000))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        loop = asyncio.get_running_loop()
        async with Http2Channel(address, options) as channel:
            ready = asyncio.ensure_future(channel.channel_ready())
            deaf, _ = await within(loop.sock_accept(listening))
            with deaf:
                wide = window_update(0, 2**31 - 1 - frames.FIRST_WINDOW)
                await loop.sock_sendall(deaf, settings(INITIAL_WINDOW_SIZE=2**31 - 1) + wide)
                await within(ready)
                error = await failure(channel.unary_unary(ECHO)(bytes(32 << 20)))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert f"[Errno {errno.ETIMEDOUT}]" in error.details()
