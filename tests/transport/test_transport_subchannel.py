"""
Connections that come, go and fall silent: what becomes of the calls, and who connects again.

Real sockets; silence and breaks are those of mesh.testing.network's links.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import closing, suppress
from itertools import pairwise
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from mesh.client.http2 import Http2Channel
from mesh.errors import Processed
from mesh.policy.backoff import Backoff
from mesh.testing.network import Network
from mesh.transport import frames
from mesh.transport.dialing import Dialed, dial_first
from mesh.transport.frames import ErrorCode
from mesh.transport.subchannel import Settings, State, Subchannel
from tests.transport import served
from tests.transport.saying import answer, data, goaway, rst_stream, settings, window_update
from tests.transport.scripted import scripted
from tests.transport.served import ECHO, HANG, Echo
from tests.transport.waiting import FAILURE, IDLE, QUICKLY, failure, until, within

# -- breaks


@pytest.mark.parametrize("how", ["reset", "cut"])
async def test_a_broken_connection_fails_what_was_on_it_and_is_made_again(how: str) -> None:
    echo = Echo()
    async with served.aio(echo) as address, Network() as network:
        link = network.link(address)
        async with Http2Channel(link.address, QUICKLY) as channel:
            calls = [channel.unary_unary(HANG)(b"") for _ in range(20)]
            await until(lambda: echo.calls == 20)
            getattr(link, how)()
            errors = [await failure(call) for call in calls]

            assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
            assert {error.processed for error in errors} == {Processed.UNKNOWN}
            assert channel.get_state() is IDLE
            assert await within(channel.unary_unary(ECHO)(b"hi")) == b"<hi>"


async def test_a_killed_server_fails_its_calls_and_its_successor_takes_new_ones() -> None:
    async with Http2Channel(await free_address(), QUICKLY) as channel:
        async with served.process(channel.address) as (_, child):
            echo = channel.unary_unary(ECHO)
            assert await within(echo(b"1", wait_for_ready=True)) == b"<1>"
            calls = [channel.unary_unary(HANG)(b"") for _ in range(100)]
            await within(echo(b"behind them"))
            child.kill()
            errors = [await failure(call) for call in calls]
            assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
            await child.wait()
            refused = await failure(echo(b"nobody"))
            assert refused.processed is Processed.NO
            assert channel.address in refused.details()
            assert f"[Errno {errno.ECONNREFUSED}]" in refused.details()
        async with served.process(channel.address):
            assert await within(echo(b"2", wait_for_ready=True)) == b"<2>"


async def free_address() -> str:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    return f"127.0.0.1:{port}"


async def test_restarts_under_load_fail_only_calls_that_were_under_way() -> None:
    """What was refused was seen by nobody; who waits for ready is served in the end."""
    async with Http2Channel(await free_address(), QUICKLY) as channel:
        echo, counts, over = channel.unary_unary(ECHO), {"OK": 0}, asyncio.Event()

        async def caller(number: int) -> None:
            while not over.is_set():
                try:
                    request = b"%d" % number
                    reply = await echo(request, wait_for_ready=True, timeout=20)
                    assert reply == b"<" + request + b">"
                    counts["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    name = error.code().name
                    counts[name] = counts.get(name, 0) + 1

        callers = [asyncio.ensure_future(caller(number)) for number in range(20)]
        for _ in range(3):
            async with served.process(channel.address) as (_, child):
                had = counts["OK"]
                await until(lambda had=had: counts["OK"] > had + 200)
                child.kill()
                await child.wait()
        async with served.process(channel.address):
            over.set()
            await within(asyncio.gather(*callers))

    # Each kill takes at most what was out, never a deadline.
    assert counts["OK"] > 600
    assert counts.keys() <= {"OK", "UNAVAILABLE"}
    assert counts.get("UNAVAILABLE", 0) <= 60


# -- connecting


async def test_attempts_to_connect_keep_their_distance() -> None:
    """gRPC's backoff counts from the start of an attempt: 0.05, 0.08, 0.128 ... with jitter."""
    states: list[tuple[float, State]] = []
    loop = asyncio.get_running_loop()
    backoff = Backoff(base=0.05, cap=0.2, multiplier=1.6, jitter=0.2)
    wish = Settings(connect_timeout=1.0, backoff=backoff)
    attempts: list[float] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(loop.time())
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        subchannel = Subchannel(
            f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
            wish,
            on_state=lambda state: states.append((loop.time(), state)),
            rng=Random(1),
        )
        subchannel.connect()
        await until(lambda: len(attempts) >= 6)
        subchannel.close()

    # "TRANSIENT_FAILURE [...] until READY": however often it is tried, it is told once.
    assert [state for _, state in states] == [
        State.CONNECTING,
        State.TRANSIENT_FAILURE,
        State.SHUTDOWN,
    ]
    gaps = [after - before for before, after in pairwise(attempts)]
    for gap, wanted in zip(gaps, (0.05, 0.08, 0.128, 0.2, 0.2), strict=False):
        assert gap >= wanted * 0.8 - 0.01


async def test_a_call_waits_for_the_first_connection_and_fails_when_it_fails() -> None:
    async with Http2Channel(await free_address(), QUICKLY) as channel:
        patient = channel.unary_unary(ECHO)(b"patient", wait_for_ready=True, timeout=20)
        error = await failure(channel.unary_unary(ECHO)(b"not"))

        assert (error.code(), error.processed) == (grpc.StatusCode.UNAVAILABLE, Processed.NO)
        assert channel.get_state() is FAILURE
        assert not patient.done()
        async with served.process(channel.address):
            assert await within(patient) == b"<patient>"


@pytest.mark.parametrize(
    "address",
    ["nonsense", "127.0.0.1", "a..b:80", "127.0.0.1:99999", "127.0.0.1:x", "[::1]:1", "unix:/no"],
)
async def test_an_address_that_is_none_is_unavailable_and_says_why(address: str) -> None:
    async with Http2Channel(address, QUICKLY) as channel:
        error = await failure(channel.unary_unary(ECHO)(b"", timeout=10))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details().startswith(f"no connection to {address}: ")
    assert len(error.details()) > len(f"no connection to {address}: ")


class Dialing(Dialed):
    """What is dialed for, and what became of it."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def abandon(self, why: str) -> None:
        self.transport.abort()


async def test_an_address_that_nobody_answers_at_holds_up_no_other() -> None:
    """A backlog that is full drops what comes, as a host that is gone does."""
    made: list[Dialing] = []

    def make() -> Dialing:
        made.append(Dialing())
        return made[-1]

    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_server(("127.0.0.1", 0)) as well,
        socket.create_connection(full.getsockname()),
        socket.create_server(("127.0.0.1", 0)) as closed,
    ):
        dead, alive, gone = full.getsockname(), well.getsockname(), closed.getsockname()
        closed.close()
        began = asyncio.get_running_loop().time()
        dialed = await within(dial_first([gone, dead, alive], make))
        took = asyncio.get_running_loop().time() - began
        assert dialed.transport.get_extra_info("peername") == alive
        assert 0.2 < took < 4.0
        # Both at once: one is kept, the other let go.
        both = await within(dial_first([alive, alive], make))
        with pytest.raises(ConnectionRefusedError):
            await within(dial_first([gone, gone], make))
        for each in (dialed, both):
            each.abandon("")
        await until(lambda: all(each.lost for each in made if each.transport is not None))


async def test_a_channel_that_closes_while_it_connects_leaves_nothing_behind() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            assert (await reader.read(24)) == frames.PREFACE
            await reader.read()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        channel = Http2Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        call = channel.unary_unary(ECHO)(b"")
        await asyncio.sleep(0.05)
        await channel.close()
        with pytest.raises(asyncio.CancelledError):
            await call
        await within(gone.wait())
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


# -- goodbyes


async def test_a_goodbye_lets_calls_end_there_and_the_next_go_elsewhere() -> None:
    def says(number: int) -> bytes:
        if server.connections == 1:
            return goaway(frames.LAST_STREAM) if number == 3 else b""
        return answer(number, b"new")

    async with scripted(says) as server, Http2Channel(server.address, QUICKLY) as channel:
        echo = channel.unary_unary(ECHO)
        await channel.channel_ready()
        first = echo(b"1")
        second = echo(b"2")
        await until(lambda: channel.get_state() is IDLE)
        assert await within(echo(b"3")) == b"new"
        assert not first.done()
        assert not second.done()
        server.first(answer(1, b"first") + answer(3, b"second"))
        assert [await within(first), await within(second)] == [b"first", b"second"]
        # Its last call has ended: the old connection is hung up.
        await until(lambda: server.open == 1)


async def test_who_breaks_http_2_and_reads_nothing_holds_nobody_up() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(settings(INITIAL_WINDOW_SIZE=2**31 - 1))
        writer.write(window_update(0, 2**31 - 1 - frames.FIRST_WINDOW))
        await reader.readexactly(1_000)
        writer.write(data(0, b"x"))
        await over.wait()
        writer.transport.abort()

    over = asyncio.Event()
    server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1_000)
    async with server:
        channel = Http2Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        error = await failure(channel.unary_unary(ECHO)(bytes(50 << 20)))
        assert "broke HTTP/2" in error.details()
        over.set()
        await channel.close()


async def test_a_callback_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with served.aio(Echo()) as address, Http2Channel(address) as channel:
        echo = channel.unary_unary(ECHO)
        await within(echo(b"0"))
        calls = [echo(b"%d" % number) for number in range(3)]
        calls[0].add_done_callback(lambda _: 1 / 0)
        connection = channel.subchannel.connection

        assert [await within(call) for call in calls] == [b"<0>", b"<1>", b"<2>"]
        assert "a done callback failed" in caplog.text
        assert channel.subchannel.connection is connection


async def test_refused_streams_and_what_a_goodbye_left_are_known_as_unseen() -> None:
    for said in (rst_stream(1, ErrorCode.REFUSED_STREAM), goaway(0)):
        async with scripted(lambda n, said=said: said) as server:
            async with Http2Channel(server.address, QUICKLY) as channel:
                error = await failure(channel.unary_unary(ECHO)(b""))

            assert (error.code(), error.processed) == (
                grpc.StatusCode.UNAVAILABLE,
                Processed.REFUSED,
            )


async def test_a_call_whose_time_is_up_before_its_turn_was_seen_by_nobody() -> None:
    greeting = settings(MAX_CONCURRENT_STREAMS=1)
    async with (
        scripted(lambda n: b"", greeting=greeting) as server,
        Http2Channel(server.address, QUICKLY) as channel,
    ):
        await channel.channel_ready()
        echo = channel.unary_unary(ECHO)
        under_way, waiting = echo(b"1", timeout=0.2), echo(b"2", timeout=0.1)
        late, early = await failure(waiting), await failure(under_way)

        assert late.code() is early.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (late.processed, early.processed) == (Processed.NO, Processed.UNKNOWN)
        assert len(server.bodies) == 1
