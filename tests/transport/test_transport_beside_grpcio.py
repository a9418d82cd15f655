"""
The same bytes of a server, over a real socket, to grpc.aio and to Http2Channel: the same ends.

Where they differ, the table says so and why; a difference that has gone is an error too, so that
the table stays true with each grpcio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from mesh.client.http2 import Http2Channel
from mesh.client.options import merged
from mesh.transport import frames
from mesh.transport.message import pack
from tests.transport.answering import REPLY, Answer
from tests.transport.answers import ANSWERS
from tests.transport.saying import PATH, answer, settings
from tests.transport.scripted import Scripted, scripted

OPTIONS = merged(())
# grpcio waits for these to its deadline.
PATIENCE, IMPATIENCE = 20.0, 0.3

Pairs = tuple[tuple[str, str | bytes], ...]
Make = Callable[[str], grpc.aio.Channel]


class End(NamedTuple):
    """What a caller is told."""

    code: str
    details: str
    reply: bytes | None
    initial: Pairs
    trailing: Pairs


def plain(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, OPTIONS)


def ours(address: str) -> grpc.aio.Channel:
    return Http2Channel(address, OPTIONS)


async def end_of(channel: grpc.aio.Channel, timeout: float, **call: Any) -> End:
    made: Any = channel.unary_unary(PATH)(b"hi", timeout=timeout, **call)
    try:
        reply = await made
    except grpc.aio.AioRpcError as error:
        details = (error.details() or "").removeprefix("Stream removed (")
        initial, trailing = error.initial_metadata(), error.trailing_metadata()
        return End(error.code().name, details, None, tuple(initial), tuple(trailing))
    reply = None if reply is grpc.aio.EOF else reply
    initial, trailing = await made.initial_metadata(), await made.trailing_metadata()
    return End("OK", "", reply, tuple(initial), tuple(trailing))


@pytest.mark.parametrize("row", ANSWERS.values(), ids=ANSWERS)
async def test_both_end_a_call_alike_or_as_the_table_says(row: Answer) -> None:
    ends: dict[Make, End] = {}
    for make in (plain, ours):
        waits = make is plain and row.grpcio == "DEADLINE_EXCEEDED"
        async with scripted(row.says) as server, make(server.address) as channel:
            ends[make] = await end_of(channel, IMPATIENCE if waits else PATIENCE)
    mine, theirs = ends[ours], ends[plain]

    assert mine.code == row.code
    assert (mine.reply, mine.initial, mine.trailing) == (
        row.reply if row.code == "OK" else None,
        # grpc.aio's own type brings those of one name together.
        tuple(grpc.aio.Metadata(*row.initial)),
        tuple(grpc.aio.Metadata(*row.trailing)),
    )
    assert row.details in mine.details
    assert row.ours in mine.details
    if row.grpcio:
        assert row.why
        assert theirs.code == row.grpcio
        assert theirs != mine, "they agree by now"
    else:
        assert row.details in theirs.details
        assert theirs._replace(details="") == mine._replace(details="")


METADATA: tuple[tuple[str, str | bytes], ...] = (
    *(("a", "1"), ("x-bin", b"\0\xff"), ("a", "2"), ("y-bin", b""), ("spaces", " b  c ")),
    *(("user-agent", "mine"), ("te", "x"), ("grpc-timeout", "1S"), ("content-type", "text/html")),
    *(("grpc-previous-rpc-attempts", "2"), ("grpc-trace-bin", b"t"), ("traceparent", "00-1-2-01")),
)
# What each says of itself, and of when it was asked; the order of names says nothing.
OF_ITSELF = {"user-agent", "grpc-timeout"}


async def requested(make: Make, **call: Any) -> tuple[Scripted, dict[str, list[str]]]:
    async with scripted(lambda n: answer(n, REPLY)) as server, make(server.address) as channel:
        assert (await end_of(channel, PATIENCE, **call)).reply == REPLY
    fields: dict[str, list[str]] = {}
    for name, value in server.requests[0]:
        fields.setdefault(name, []).append(value)
    fields[":authority"] = [
        value.replace(server.address, "there") for value in fields[":authority"]
    ]
    return server, fields


@pytest.mark.parametrize("metadata", [(), METADATA], ids=["none", "much"])
async def test_both_make_the_same_request(metadata: Any) -> None:
    there, theirs = await requested(plain, metadata=metadata)
    here, mine = await requested(ours, metadata=metadata)

    assert here.bodies == there.bodies == [pack(b"hi")]
    assert mine.keys() == theirs.keys()
    assert {n: v for n, v in mine.items() if n not in OF_ITSELF} == {
        n: v for n, v in theirs.items() if n not in OF_ITSELF
    }
    assert all("proxyless/" in value for value in mine["user-agent"])


@pytest.mark.parametrize("name", ["grpc-status", "grpc-message", "grpc-encoding", "host"])
async def test_what_only_the_call_itself_may_say_goes_nowhere(name: str) -> None:
    """grpcio sends these on; told a grpc-status, it takes that for the call's end."""
    _, fields = await requested(ours, metadata=((name, "1"),))

    assert name not in fields


# What grpcio says to it while it is awaited, and what we say as soon as the call is made.
REFUSED = [
    *((pair, "ExecuteBatchError", "ValueError") for pair in (("Capital", "1"), ("a b", "1"))),
    *((pair, "ExecuteBatchError", "ValueError") for pair in ((":path", "1"), ("", "1"))),
    *((pair, "ExecuteBatchError", "ValueError") for pair in (("é", "1"), ("a", "é"))),
    *((pair, "ExecuteBatchError", "ValueError") for pair in (("a", "\n"), ("a", "tab\t"))),
    *((pair, "TypeError", "TypeError") for pair in (("a", 1), ("a-bin", "text"))),
    *((pair, "ValueError", "ValueError") for pair in (("a",),)),
    (("a", None), "OK", "TypeError"),
    (("a", b"bytes"), "OK", "OK"),
]


@pytest.mark.parametrize(("pair", "theirs", "mine"), REFUSED, ids=repr)
async def test_metadata_that_cannot_be_sent_is_refused(pair: Any, theirs: str, mine: str) -> None:
    found = []
    for make in (plain, ours):
        async with scripted(lambda n: answer(n, REPLY)) as server, make(server.address) as channel:
            try:
                found.append((await end_of(channel, PATIENCE, metadata=(pair,))).code)
            except Exception as error:  # noqa: BLE001 - its type is what is compared
                found.append(type(error).__name__)
            # And the channel goes on.
            assert (await end_of(channel, PATIENCE)).reply == REPLY

    assert found == [theirs, mine]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [0, 100, 100_000])
async def test_both_compress_alike(compression: grpc.Compression, size: int) -> None:
    seen = []
    for make in (plain, ours):
        async with scripted(lambda n: answer(n, REPLY)) as server, make(server.address) as channel:
            await channel.unary_unary(PATH)(bytes(size), compression=compression)
        fields = dict(server.requests[0])
        seen.append((fields.get("grpc-encoding"), server.bodies[0][:1], len(server.bodies[0])))

    theirs, mine = seen
    assert mine[:2] == theirs[:2]
    # zlib's level and gzip's header are each its own.
    assert abs(mine[2] - theirs[2]) <= 32


HTTP_1 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "greeting",
    [
        HTTP_1,
        b"SSH-2.0-OpenSSH_9.6\r\n" * 2,
        frames.frame(frames.PING, 0, 0, bytes(8)),
        settings() + frames.frame(frames.GOAWAY, 0, 0, bytes(8)),
    ],
    ids=["HTTP/1", "SSH", "PING first", "gone at once"],
)
async def test_a_server_that_speaks_otherwise_is_unavailable(greeting: bytes) -> None:
    for make in (plain, ours):
        async with (
            scripted(lambda n: b"", greeting=greeting) as server,
            make(server.address) as channel,
        ):
            assert (await end_of(channel, 2.0)).code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), make
