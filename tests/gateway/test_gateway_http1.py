"""HTTP/1.1 itself: requests out of bytes, however they are cut, and answers as bytes."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import framing
from gateway.http1.parsing import AROUND_BYTES, HEAD_BYTES, MOST_HEADERS, Parser, Refusal
from tests.gateway.asgi import GET, served
from tests.gateway.test_gateway_hostile import CASES


class Said:
    """What a parser made of its bytes, as a transcript."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def begun(self, scope: dict[str, Any], *, last: bool, expects: bool, upgrade: bool) -> None:
        what = (scope["method"], scope["raw_path"], scope["query_string"], tuple(scope["headers"]))
        self.lines.append([*what, last, expects, upgrade, b""])

    def fed(self, piece: bytes) -> None:
        self.lines[-1][-1] += piece

    def ended(self) -> None:
        self.lines.append("ended")


def heard(*pieces: bytes) -> list[Any]:
    said, parser = Said(), None
    parser = Parser(said)
    try:
        for number, piece in enumerate(pieces):
            rest = parser.feed(piece)
            if rest is not None:
                return [*said.lines, ("then", rest + b"".join(pieces[number + 1 :]))]
    except Refusal as refusal:
        return [*said.lines, refusal.status]
    return said.lines


@pytest.mark.parametrize("name", CASES)
def test_how_bytes_are_cut_says_nothing(name: str) -> None:
    """Byte by byte, and in the middle: what is asked is the same, or it is refused all the same."""
    raw = CASES[name].raw[:20_000]
    whole = heard(raw)
    cut = heard(*(raw[at : at + 1] for at in range(len(raw))))
    halves = heard(raw[: len(raw) // 2], raw[len(raw) // 2 :])

    # A body that is refused has begun, or not, by where it was cut; requests have not.
    assert requests(cut) == requests(whole) == requests(halves)
    assert refused(cut) == refused(whole) == refused(halves)


def requests(lines: list[Any]) -> list[Any]:
    ended = [at for at, line in enumerate(lines) if line == "ended"]
    return lines[: ended[-1] + 1] if ended else []


def refused(lines: list[Any]) -> bool:
    return bool(lines) and isinstance(lines[-1], int)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=20), st.binary(max_size=200))
def test_pipelined_requests_come_out_whole_wherever_they_are_cut(
    cuts: list[int], body: bytes
) -> None:
    chunks = b"%x;a=b\r\n%b\r\n" % (len(body), body) if body else b""
    raw = (
        GET
        + b"VIEW /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        + b"PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
        + GET
    )
    # A method that nobody knows is one where it comes first: here at a cut of its own.
    pieces, rest = [raw[: len(GET)]], raw[len(GET) :]
    for size in cuts:
        pieces.append(rest[:size])
        rest = rest[size:]
    found = heard(*pieces, rest)

    asked = [line for line in found if line != "ended"]
    assert [(line[0], line[1], line[-1]) for line in asked] == [
        ("GET", b"/a", b""),
        ("VIEW", b"/a", body),
        ("PUT", b"/b", body),
        ("GET", b"/a", b""),
    ]
    assert found.count("ended") == 4


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * MOST_HEADERS + b"\r\n"], 431),
        ([b"GET / HTTP/1.1\r\nX: "] + [b"a" * 1000] * (HEAD_BYTES // 1000 + 1), 431),
        ([b"GET /"] + [b"a" * 1000] * (HEAD_BYTES // 1000 + 1), 431),
        (
            [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"]
            + [b"a" * 1000] * (AROUND_BYTES // 1000 + 1),
            400,
        ),
        (
            [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"]
            + [b"X: y\r\n"] * (HEAD_BYTES // 2 + 1),
            400,
        ),
    ],
    ids=["many headers", "a long header", "a long target", "a long extension", "many trailers"],
)
def test_what_has_no_end_is_refused_in_the_middle(pieces: list[bytes], status: int) -> None:
    assert heard(*pieces)[-1] in (status, 431)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (b"/", (b"/", b"")),
        (b"/a%2Fb?c=%20&d", (b"/a%2Fb", b"c=%20&d")),
        (b"/a??", (b"/a", b"?")),
        (b"http://x", (b"/", b"")),
        (b"HTTP://x:80/a?b", (b"/a", b"b")),
        (b"http://x?b", (b"/", b"b")),
        (b"*", (b"*", b"")),
    ],
)
def test_a_target_is_a_path_and_a_query(url: bytes, found: tuple[bytes, bytes]) -> None:
    assert framing.target(url) == found


@pytest.mark.parametrize(
    "url", [b"", b"/a b", b"/\xe9", b"/\x7f", b"/a#b", b"http:///a", b"ftp://x/a"]
)
def test_what_is_no_target_is_refused(url: bytes) -> None:
    with pytest.raises(framing.BadTarget):
        framing.target(url)


def test_a_head_is_its_line_its_date_and_its_fields() -> None:
    date = framing.Dates().at(784111777.5)
    head = framing.head(404, [(b"content-length", b"0")], date)

    assert head == (
        b"HTTP/1.1 404 Not Found\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"content-length: 0\r\n\r\n"
    )


# -- on a socket


async def said(scope: Any, receive: Any, send: Any, *pieces: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def asked(port: int, raw: bytes) -> bytes:
    """All that is answered until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_what_is_no_request_is_refused_with_a_body_that_says_why() -> None:
    async with served(said) as port:
        found = await asked(port, b"G@T / HTTP/1.1\r\n\r\n")
    head, _, body = found.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in head
    assert b"x-request-id: " in head
    assert json.loads(body)["details"][0]["reason"] == "MALFORMED_REQUEST"


@pytest.mark.parametrize(
    ("request_line", "ending"),
    [
        (b"GET / HTTP/1.1", b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (b"GET / HTTP/1.0", b"\r\n\r\nabc"),
        (b"HEAD / HTTP/1.1", b"transfer-encoding: chunked\r\n\r\n"),
    ],
)
async def test_a_body_of_unknown_length_ends_as_its_version_has_it(
    request_line: bytes, ending: bytes
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await said(scope, receive, send, b"ab", b"c")

    async with served(answer) as port:
        found = await asked(port, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found.endswith(ending)


async def test_an_application_that_gives_up_in_the_middle_ends_the_connection_unfinished() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with served(answer) as port:
        found = await asked(port, GET)

    assert found.endswith(b"4\r\nhalf\r\n")


async def test_who_is_over_the_limit_waits_until_somebody_leaves() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await said(scope, receive, send, b"ok")

    async with served(answer, connections=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET)
            await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        third = asyncio.ensure_future(
            asked(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        )
        await asyncio.sleep(0.1)
        assert not third.done()
        held[0][1].close()
        assert b"ok" in await third
        held[1][1].close()


async def test_more_of_a_body_than_is_read_waits_in_the_kernel() -> None:
    """An application that does not read is no reason to keep what comes in memory."""
    go = asyncio.Event()
    sizes: list[int] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        more = True
        while more:
            event = await receive()
            sizes.append(len(event["body"]))
            more = event["more_body"]
        await said(scope, receive, send, b"%d" % sum(sizes))

    size = 16 * 1024 * 1024
    async with served(answer) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % size)
        writer.write(b"x" * size)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)
        go.set()
        answered = await asyncio.wait_for(reader.read(), 20)
        writer.close()

    assert b"%d" % size in answered
    assert max(sizes) < 1024 * 1024


async def test_a_client_that_is_gone_is_heard_of_at_once() -> None:
    gone = asyncio.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    async with served(answer) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await writer.drain()
        hard = writer.get_extra_info("socket")
        hard.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()
        await asyncio.wait_for(gone.wait(), 5)
