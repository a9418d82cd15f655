"""HTTP as bytes: any cut gives the same requests, and what is no request is told as Go tells it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.agent import Agent
from discovery.agent.wire import MAX_BODY, MAX_HEAD, Parser, Request, Unreadable

SECONDS = 5.0
GET = b"GET /v1/kv/a%20b?raw&x=1&x=%2F HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = (
    b"PUT /v1/kv/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: z\r\n\r\n"
)
BARE = b"GET /v1/status/leader HTTP/1.0\nConnection: keep-alive\n\n"


def told(data: bytes, *cuts: int) -> list[str]:
    """What comes of the bytes, fed in pieces."""
    parser, found = Parser(), []
    places = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(places):
        parser.feed(data[start:end])
        while (request := parser.request()) is not None:
            found.append(line(request))
    return found


def line(request: Request) -> str:
    parameters = "&".join("=".join(pair) for pair in request.query.items())
    kept = "" if request.keep_alive else " and close"
    return f"{request.method} {request.path}?{parameters} {request.body!r}{kept}"


STORY = [
    "GET /v1/kv/a b?raw=&x=1&x=/ b''",
    "PUT /v1/kv/a? b'abc'",
    "PUT /v1/kv/b? b'abcde'",
    "GET /v1/status/leader? b''",
]


@given(st.lists(st.integers(0, len(GET + PUT + CHUNKED + BARE)), max_size=12))
def test_requests_are_the_same_however_their_bytes_arrive(cuts: list[int]) -> None:
    assert told(GET + PUT + CHUNKED + BARE, *cuts) == STORY


def test_requests_come_whole_when_fed_byte_by_byte() -> None:
    data = GET + PUT + CHUNKED + BARE
    assert told(data, *range(len(data))) == STORY


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_unreadable(data: bytes) -> None:
    parser = Parser()
    parser.feed(data + b"\r\n\r\n")
    with contextlib.suppress(Unreadable):
        while parser.request() is not None:
            pass


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"FOO\r\n\r\n", "400 Bad Request"),
        (b"GET /\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "400 Bad Request: unsupported protocol version"),
        (b"GET / HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400 Bad Request",
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            "501 Unsupported transfer encoding",
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "400 Bad Request",
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
            "400 Bad Request",
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
            "413 Request Entity Too Large",
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
            "413 Request Entity Too Large",
        ),
        (b"GET /" + b"a" * MAX_HEAD * 2, "431 Request Header Fields Too Large"),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, text: str) -> None:
    parser = Parser()
    parser.feed(data)
    with pytest.raises(Unreadable) as refused:
        parser.request()

    assert refused.value.text == text


async def exchange(agent: Agent, *pieces: bytes, answers: int = 1) -> str:
    """What comes back: so many answers, or all until the agent closes."""
    reader, writer = await asyncio.open_connection(agent.host, agent.port)
    try:
        async with asyncio.timeout(SECONDS):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            data = b""
            while data.count(b"HTTP/1.") < answers or not data.endswith(b"\n"):
                more = await reader.read(65536)
                if not more:
                    break
                data += more
            return data.decode()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order(agent: Agent) -> None:
    """The first one waits, and so does the answer of the second."""
    waits = b"GET /v1/catalog/services?index=99&wait=50ms HTTP/1.1\r\nHost: a\r\n\r\n"
    text = await exchange(
        agent, waits + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", answers=2
    )

    assert text.index("X-Consul-Index") < text.index("Consul Agent (embedded")


async def test_a_client_that_asks_first_is_told_to_go_on(agent: Agent) -> None:
    head = b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection(agent.host, agent.port)
    async with asyncio.timeout(SECONDS):
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        answer = await reader.readuntil(b"true")
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"FOO\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        (b"GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
    ],
)
async def test_a_connection_that_is_over_is_closed(agent: Agent, data: bytes, said: str) -> None:
    text = await exchange(agent, data, answers=99)

    assert text.startswith(said)
    assert "Connection: close\r\n" in text


async def test_a_client_that_goes_away_leaves_no_blocked_query_behind(agent: Agent) -> None:
    _, writer = await asyncio.open_connection(agent.host, agent.port)
    writer.write(b"GET /v1/health/service/x?index=99&wait=60s HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(SECONDS):
        while not agent.catalog.waiters.get("service:x"):
            await asyncio.sleep(0.005)
        writer.close()
        await writer.wait_closed()
        while agent.catalog.waiters.get("service:x"):
            await asyncio.sleep(0.005)
