"""
A gRPC message on the wire: compressed or not, its length, its bytes.

    flag 8 | length 32 | message        "Length-Prefixed-Message" - gRPC over HTTP2

Pure.  A reply that says it is longer than it may be is refused by its prefix, and one that unpacks
to more than it may be is unpacked no further.
"""

from __future__ import annotations

import gzip
import struct
import zlib

PREFIX = struct.Struct(">BI")
IDENTITY, GZIP, DEFLATE = "identity", "gzip", "deflate"
ENCODINGS = "identity, deflate, gzip"
# zlib's words for the two formats.
_WBITS = {GZIP: 16 + zlib.MAX_WBITS, DEFLATE: zlib.MAX_WBITS}


class MessageError(Exception):
    """A reply's message cannot be taken; `too_large` when it is its size."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


def pack(message: bytes, encoding: str = "") -> bytes:
    """The message with its prefix; compressed where an encoding is asked for and it helps."""
    if encoding and encoding != IDENTITY:
        packed = gzip.compress(message) if encoding == GZIP else zlib.compress(message)
        if len(packed) < len(message):
            return PREFIX.pack(1, len(packed)) + packed
    return PREFIX.pack(0, len(message)) + message


def unpack(message: bytes, encoding: str, largest: int) -> bytes:
    """A message that came compressed, at most `largest` bytes of it; MessageError otherwise."""
    if encoding not in _WBITS:
        # "A Compressed-Flag value of 1 [...] if the server did not include a grpc-encoding [...]
        # the client will produce INTERNAL" - gRPC compression
        raise MessageError(f"a compressed reply, encoding {encoding or 'none'}")
    inflating = zlib.decompressobj(_WBITS[encoding])
    try:
        found = inflating.decompress(message, largest + 1)
    except zlib.error as error:
        raise MessageError(f"a reply that is no {encoding}: {error}") from error
    if len(found) > largest:
        raise MessageError(f"a reply of more than {largest} bytes, unpacked", too_large=True)
    if not inflating.eof:
        raise MessageError(f"a reply whose {encoding} breaks off")
    if inflating.unused_data:
        raise MessageError(f"a reply with {len(inflating.unused_data)} bytes after its {encoding}")
    return found
