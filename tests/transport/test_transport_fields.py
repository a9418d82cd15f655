"""Header fields as bytes, both ways: HPACK as servers may use it, gRPC's names and values."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from mesh.transport.fields import FieldsReader, MetadataWriter, head, literal
from mesh.transport.frames import ErrorCode, ProtocolError
from tests.transport.saying import block

LARGEST = 16 << 10
NAMES = st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True).filter(
    lambda name: not name.startswith(("grpc-", ":")) and not name.endswith("-bin")
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200)
# What neither side takes for metadata, or HTTP/2 forbids.
SPECIAL = {
    *("content-type", "content-length", "te", "user-agent", "host", "connection", "upgrade"),
    *("keep-alive", "proxy-connection", "transfer-encoding"),
}
PAIRS = st.lists(
    st.one_of(
        st.tuples(NAMES.filter(lambda name: name not in SPECIAL), VALUES),
        st.tuples(NAMES.map(lambda name: name + "-bin"), st.binary(max_size=60)),
    ),
    max_size=12,
)


def encoder(*, table: int = 0) -> Encoder:
    found = Encoder()
    found.header_table_size = table
    return found


def raw(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64encode(value)


# -- what a server sends


@given(PAIRS, st.booleans())
def test_metadata_is_read_as_it_was_written(pairs: Any, huffman: bool) -> None:
    sent = [(b":status", b"200"), (b"content-type", b"application/grpc")]
    sent += [(name.encode(), raw(value)) for name, value in pairs]
    reader = FieldsReader(LARGEST)
    found = reader.read(encoder().encode(sent, huffman=huffman))

    assert found is not None
    assert (found.http, found.foreign, found.status, found.malformed) == ("200", "", None, "")
    assert list(found.metadata) == pairs


@given(st.text(max_size=100))
def test_any_message_of_a_status_is_read(text: str) -> None:
    """ "Percent-Encoded -> 1*(Percent-Byte-Unencoded / Percent-Byte-Encoded)" - gRPC over HTTP2"""
    wanted = text.encode(errors="replace")
    said = block(("grpc-status", "5"), ("grpc-message", quote_from_bytes(wanted)))
    found = FieldsReader(LARGEST).read(said)

    assert found is not None
    assert (found.status, found.message) == (5, wanted.decode())


FIXED = b"\x88"  # ":status: 200" of the static table
GRPC = literal(b"content-type", b"application/grpc")


@pytest.mark.parametrize(
    "said",
    [
        FIXED + GRPC,
        b"\x20" + FIXED + GRPC,
        b"\x20\x20" + FIXED + GRPC,
        # With incremental indexing: into a table of no size, where nothing stays.
        b"\x48\x03200" + b"\x5f\x10application/grpc",
        # Never indexed.
        b"\x18\x03200" + b"\x1f\x10\x10application/grpc",
    ],
    ids=["indexed", "resized to 0", "resized twice", "with indexing", "never indexed"],
)
def test_a_server_writes_its_block_as_it_likes(said: bytes) -> None:
    reader = FieldsReader(LARGEST)
    for _ in range(3):
        found = reader.read(said)
        assert found is not None
        assert (found.http, found.foreign) == ("200", "")


@pytest.mark.parametrize(
    "said",
    [
        b"\xbe",
        b"\x80",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x3f\xe1\x1f" + FIXED,
        FIXED + b"\x20",
        b"\x00\x05ab",
        b"\x00\x81\x00\x00",
        b"\x40",
        b"\x00",
    ],
    ids=[
        *("beyond the table", "index 0", "a number without end", "resized to 4096"),
        *(
            "resized in the midst",
            "a name cut short",
            "bad Huffman code",
            "nothing after it",
            "same",
        ),
    ],
)
def test_a_block_that_is_none_ends_the_connection(said: bytes) -> None:
    """ "MUST treat [...] as a connection error of type COMPRESSION_ERROR" - RFC 9113, 4.3"""
    with pytest.raises(ProtocolError) as caught:
        FieldsReader(LARGEST).read(said)

    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


@given(st.binary(max_size=60))
def test_garbage_is_fields_or_an_error_of_the_protocol(said: bytes) -> None:
    codes = []
    try:
        FieldsReader(LARGEST).read(said)
    except ProtocolError as error:
        codes.append(error.code)

    assert set(codes) <= {ErrorCode.COMPRESSION_ERROR}


@pytest.mark.parametrize(("size", "taken"), [(100, True), (900, True), (1_000, False)])
def test_a_list_longer_than_may_be_is_not_read(size: int, taken: bool) -> None:
    """Each field counts 32 bytes more than it is long - RFC 9113, 6.5.2."""
    said = block(("grpc-status", "5"), ("a", "x" * size))

    assert (FieldsReader(1_000).read(said) is not None) is taken
    many = block(("grpc-status", "5"), *[("a", "")] * (size // 33))
    assert (FieldsReader(1_000).read(many) is not None) is (size < 1_000)


def test_blocks_of_a_server_that_never_repeats_itself_are_not_all_remembered() -> None:
    reader = FieldsReader(LARGEST)
    for number in range(5_000):
        reader.read(block(("grpc-status", "0"), ("number", str(number))))

    assert len(reader._known) <= 512


# -- what we send


@given(PAIRS)
def test_metadata_is_written_as_it_is_read(pairs: Any) -> None:
    writer = MetadataWriter()
    first, again = writer.write(pairs), writer.write(pairs)
    found = Decoder().decode(first, raw=True)

    assert first == again
    expected = [
        (name.encode(), raw(value).rstrip(b"=") if name.endswith("-bin") else raw(value))
        for name, value in pairs
    ]
    assert [tuple(each) for each in found] == expected


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16_383, 16_384, 100_000])
def test_lengths_at_the_edges_of_an_integers_prefix(size: int) -> None:
    value = "x" * size
    assert Decoder(max_header_list_size=1 << 20).decode(
        MetadataWriter().write([("a", value)]) + literal(b"b", value.encode()), raw=True
    ) == [(b"a", value.encode()), (b"b", value.encode())]


def test_names_are_remembered_within_a_bound() -> None:
    writer = MetadataWriter()
    for number in range(5_000):
        writer.write([(f"name-{number}", "x")])

    assert len(writer._names) <= 512


def test_a_requests_head_has_its_pseudo_headers_first_and_te() -> None:
    found = head("/a.B/C", "there:1", "agent", encodings="identity", encoding="gzip")
    fields = Decoder().decode(found.before + found.after)

    assert [tuple(field) for field in fields] == [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        (":authority", "there:1"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity"),
        ("user-agent", "agent"),
    ]
