"""
gRPC's header fields on HTTP/2: a request's block written, a response's block read.

    :method :scheme :path :authority | grpc-timeout | te content-type user-agent ... | metadata
    \\------ once per method -------/   per call      \\------ once per method ------/   per call

Written without the dynamic table, so a block is bytes laid side by side; and asked with
SETTINGS_HEADER_TABLE_SIZE 0, so that a server's block means the same every time and is remembered
by its bytes.  Metadata is what grpcio would show: no reserved names, `-bin` values as bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from hpack import Decoder, HPACKError, OversizedHeaderListError

from mesh.transport.frames import ErrorCode, ProtocolError

Metadata = Iterable[tuple[str, str | bytes]]
Pairs = tuple[tuple[str, str | bytes], ...]

# "Header-Name -> 1*( %x30-39 / %x61-7A / "_" / "-" / ".")", "ASCII-Value -> 1*( %x20-%x7E )"
#                                                           - gRPC over HTTP2
_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[\x20-\x7e]*")
BINARY = "-bin"
# Said by the call itself; what a caller says under these names goes nowhere.
_RESERVED = frozenset(
    {
        *("te", "content-type", "user-agent", "grpc-timeout", "grpc-encoding"),
        *("grpc-accept-encoding", "grpc-status", "grpc-message"),
        *("connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
    }
)
_HIDDEN = frozenset(
    {
        *("content-type", "content-length", "grpc-encoding", "grpc-accept-encoding"),
        *("grpc-status", "grpc-message", "te"),
    }
)
# A response with one of these is malformed - RFC 9113, 8.2.1 and 8.2.2
_WRONG_NAME = re.compile(rb"[\x00-\x20A-Z\x7f-\xff]")
_WRONG_VALUE = re.compile(rb"[\0\r\n]")
_OF_HTTP_1 = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
_MOST_REMEMBERED = 512
_LONGEST_REMEMBERED = 512
# "TimeoutValue -> {positive integer as ASCII string of at most 8 digits}" - gRPC over HTTP2
_UNITS = ((b"m", 1e3), (b"S", 1.0), (b"H", 1 / 3600))
_MOST_UNITS = 99_999_999
# More than eleven thousand years, which is what eight digits of hours hold.
_LONGEST_SECONDS = _MOST_UNITS * 3600.0


# -- out


def literal(name: bytes, value: bytes) -> bytes:
    """A field as "Literal Header Field without Indexing" (RFC 7541, 6.2.2), no Huffman code."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    # "I is encoded on the prefix, 2^N - 1, then the rest by 7 bits" - RFC 7541, 5.1
    size -= 127
    prefix = bytearray(b"\x7f")
    while size >= 128:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + text


class Head(NamedTuple):
    """What all requests of one method begin with, before and after their timeout."""

    before: bytes
    after: bytes


def head(path: str, authority: str, user_agent: str, *, encodings: str, encoding: str = "") -> Head:
    """The head of a method's requests; `encodings` are those of a reply that can be read."""
    before = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", authority.encode()),
    ]
    after = [
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *([(b"grpc-encoding", encoding.encode())] if encoding else []),
        (b"grpc-accept-encoding", encodings.encode()),
        (b"user-agent", user_agent.encode()),
    ]
    return Head(*(b"".join(literal(*field) for field in fields) for fields in (before, after)))


def timeout(seconds: float) -> bytes:
    """The field grpc-timeout: in the finest unit that eight digits hold, never above the wish."""
    seconds = min(seconds, _LONGEST_SECONDS)
    if seconds <= _MOST_UNITS / 1e6:  # nearly every call's
        digits, unit = b"%d" % int(seconds * 1e6), b"u"
    else:
        units, unit = next(
            (int(seconds * per_second), unit)
            for unit, per_second in _UNITS
            if seconds * per_second <= _MOST_UNITS
        )
        digits = b"%d" % units
    return b"\x00\x0cgrpc-timeout" + bytes((len(digits) + 1,)) + digits + unit


class MetadataWriter:
    """Metadata as a piece of a header block; fields that come again are remembered."""

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}

    def write(self, metadata: Metadata) -> bytes:
        """The bytes; ValueError for what cannot stand in a header, as grpcio says it."""
        found = b""
        for name, value in metadata:
            start = self._names.get(name)
            if start is None:
                start = self._name(name)
            if not start:
                continue
            if type(value) is str and not name.endswith(BINARY):
                text = value.encode("latin-1", "replace") if value.isascii() else value.encode()
            else:
                text = _bytes(name, value)
            if not _VALUE.fullmatch(text):
                raise ValueError(f"metadata was invalid: {name}={value!r}")
            size = len(text)
            found += start + (bytes((size,)) + text if size < 127 else _text(text))
        return found

    def _name(self, name: str) -> bytes:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"metadata was invalid: {name!r} is no name")
        if len(self._names) >= _MOST_REMEMBERED:
            self._names.clear()
        start = b"" if name in _RESERVED else b"\x00" + _text(name.encode())
        self._names[name] = start
        return start


def _bytes(name: str, value: str | bytes) -> bytes:
    if name.endswith(BINARY):
        if not isinstance(value, bytes):
            raise TypeError(f"metadata was invalid: {name}={value!r} is not bytes")
        # "Implementations MUST accept padded and un-padded values and should emit un-padded
        # values" - gRPC over HTTP2
        return base64.b64encode(value).rstrip(b"=")
    if not isinstance(value, str | bytes):
        raise TypeError(f"metadata was invalid: {name}={value!r} is neither str nor bytes")
    return value if isinstance(value, bytes) else value.encode()


# -- in


class Fields(NamedTuple):
    """A response's header block, read: its headers, its trailers, or both in one."""

    # :status; "" in trailers.
    http: str
    # What stands where application/grpc should, and "" where that does.
    foreign: str
    # grpc-status; None where there is none.
    status: int | None
    message: str
    # grpc-encoding; "" says identity.
    encoding: str
    metadata: Pairs
    # What in them no server may send; "" where all is well.
    malformed: str


class FieldsReader:
    """Reads the blocks of responses, of at most `largest` bytes as RFC 9113 counts them."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._decoder = Decoder(max_header_list_size=largest)
        # Both, because a server that never uses the table need not say that it does not.
        self._decoder.header_table_size = 0
        self._decoder.max_allowed_table_size = 0
        self._known: dict[bytes, Fields] = {}

    def read(self, block: bytes) -> Fields | None:
        """The fields; None when they are more than may be; ProtocolError when they are none."""
        found = self._known.get(block)
        if found is None:
            if len(block) > self._largest:
                return None  # decoded it would be longer, and it may have been cut
            try:
                decoded = self._decoder.decode(block, raw=True)
            except OversizedHeaderListError:
                return None
            except (HPACKError, IndexError) as error:
                # By its kind: hpack's own words may hold a place in memory.
                why = f"headers that are no HPACK, {type(error).__name__}"
                raise ProtocolError(ErrorCode.COMPRESSION_ERROR, why) from error
            found = _fields(decoded)
            if len(block) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _MOST_REMEMBERED:
                    self._known.clear()
                self._known[block] = found
        return found


def _fields(decoded: Iterable[tuple[bytes, bytes]]) -> Fields:
    http = message = encoding = malformed = ""
    foreign = "no content-type"
    status: int | None = None
    metadata: list[tuple[str, str | bytes]] = []
    first = True
    for raw, value in decoded:
        name = raw.decode("latin-1")
        if (
            _WRONG_NAME.search(raw)
            or _WRONG_VALUE.search(value)
            or name in _OF_HTTP_1
            # "All pseudo-header fields MUST appear [...] before all regular field lines" - RFC 9113
            # 8.3; a response has this one, once.
            or (name.startswith(":") and not (first and name == ":status"))
        ):
            malformed = malformed or f"{name}: {value.decode('latin-1')}"
        first = False
        if name == ":status":
            http = value.decode("latin-1")
        elif name == "grpc-status":
            status = _code(value)
        elif name == "grpc-message":
            # "When decoding invalid values, implementations MUST NOT error or throw away the
            # message" - gRPC over HTTP2
            message = unquote_to_bytes(value).decode("utf-8", "replace")
        elif name == "grpc-encoding":
            encoding = value.decode("latin-1")
        elif name == "content-type":
            text = value.decode("latin-1")
            foreign = "" if text.startswith("application/grpc") else f"content-type {text}"
        if name in _HIDDEN or name.startswith(":"):
            continue
        if name.endswith(BINARY):
            metadata += [(name, part) for part in _unpacked(value)]
        else:
            metadata.append((name, _decoded(value)))
    return Fields(http, foreign, status, message, encoding, tuple(metadata), malformed)


def _code(value: bytes) -> int:
    """A status by its number; what is none is UNKNOWN, 2."""
    return int(value) if value.isdigit() and len(value) < 3 and int(value) <= 16 else 2


def _unpacked(value: bytes) -> list[bytes]:
    """The values of a -bin field: several may be joined by commas."""
    found = []
    for part in value.split(b","):
        stripped = part.strip().rstrip(b"=")
        try:
            found.append(base64.b64decode(stripped + b"=" * (-len(stripped) % 4), validate=True))
        except binascii.Error:
            found.append(part)  # not ours to throw away
    return found


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
