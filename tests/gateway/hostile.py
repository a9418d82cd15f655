"""
Hostile requests, and what must become of each: written from RFC 9110 and RFC 9112, and from what
Envoy and OWASP list.  Here is what frames a message; the rest is in hostile_requests.py beside it.

A case is raw bytes, the statuses that answer them in order, whether the connection may be used
again, and how many requests reach a service.
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN, CLOSED = True, False


@dataclass(frozen=True, slots=True)
class Case:
    """One connection's worth of bytes and what they lead to."""

    raw: bytes
    statuses: tuple[int, ...] = (400,)
    stays: bool = CLOSED
    reached: int = 0


def served(raw: bytes, *statuses: int, stays: bool = OPEN, reached: int = 1) -> Case:
    return Case(raw, statuses or (200,), stays, reached)


def told(raw: bytes, status: int, *, stays: bool = OPEN) -> Case:
    """Answered by the gateway, whose connection stays: the message's end was never in doubt."""
    return Case(raw, (status,), stays)


def get(path: bytes = b"/v1/orders/o", *headers: bytes, host: bytes = b"Host: x") -> bytes:
    lines = [b"GET " + path + b" HTTP/1.1", host, *headers]
    return b"\r\n".join(line for line in lines if line) + b"\r\n\r\n"


def post(body: bytes, *headers: bytes, length: bool = False) -> bytes:
    lines = [b"POST /v1/orders HTTP/1.1", b"Host: x", b"Content-Type: application/json", *headers]
    lines += [b"Content-Length: %d" % len(body)] if length else []
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def line(first: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([first, b"Host: x", *headers]) + b"\r\n\r\n"


ORDER = b'{"customerId": "c"}'
CHUNK = b"13\r\n" + ORDER + b"\r\n"
CHUNKS = CHUNK + b"0\r\n\r\n"
HIDDEN = get(b"/v1/orders/smuggled")
GET = b"GET /v1/orders/o HTTP/1.1"
CODED = b"Transfer-Encoding: chunked"


def sized(length: bytes) -> bytes:
    return post(ORDER, b"Content-Length:" + length)


def coded(coding: bytes) -> bytes:
    return post(CHUNKS, b"Transfer-Encoding:" + coding)


def chunked(body: bytes) -> bytes:
    return post(body, CODED)


LENGTHS: dict[str, Case] = {
    # RFC 9112 6.3: "If a message is received with both a Transfer-Encoding and a Content-Length
    # header field ... ought to be handled as an error."
    "CL.TE": Case(post(b"0\r\n\r\n" + HIDDEN, b"Content-Length: %d" % (5 + len(HIDDEN)), CODED)),
    "CL.TE short": Case(post(b"0\r\n\r\n" + HIDDEN, b"Content-Length: 6", CODED)),
    "TE.CL": Case(
        post(b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN), CODED, b"Content-Length: 4")
    ),
    "CL.CL": Case(post(ORDER + HIDDEN, b"Content-Length: 19", b"Content-Length: 60")),
    "CL.cl": Case(post(ORDER + HIDDEN, b"Content-Length: 19", b"content-length: 60")),
    # "either reject the message as invalid or replace" -- RFC 9110 8.6.
    "the same length twice": Case(post(ORDER, b"Content-Length: 19", b"Content-Length: 19")),
    "the same length in a list": Case(sized(b" 19, 19")),
    "two lengths in a list": Case(sized(b" 19, 3")),
    "negative length": Case(sized(b" -19")),
    "signed length": Case(sized(b" +19")),
    "hexadecimal length": Case(sized(b" 0x13")),
    "length with a space in it": Case(sized(b" 1 9")),
    "length with a vertical tab": Case(sized(b" 19\x0b")),
    "length with NBSP": Case(sized(b" \xa019")),
    "length of 23 digits": Case(sized(b" " + b"9" * 23)),
    "length of 2^64": Case(sized(b" 18446744073709551616")),
    "empty length": Case(sized(b"")),
    "length with a parameter": Case(sized(b" 19;")),
    "length with an underscore": Case(sized(b" 1_9")),
    "length with a fraction": Case(sized(b" 19.0")),
    "length with an exponent": Case(sized(b" 1e1")),
    "folded length": Case(post(ORDER, b"Content-Length:\r\n 19")),
    "length with zeros before it": served(sized(b" 0019")),
    "length with blanks around it": served(sized(b" \t 19 \t")),
    # A body where none is wanted is still the body, never the next request.
    "request as the body of a GET": told(
        get(b"/v1/orders/o", b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, 400
    ),
    "request as the body of a health check": served(
        get(b"/healthz", b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, reached=0
    ),
    "request as the body of a 404": told(
        get(b"/nowhere", b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, 404
    ),
    "request as the body of a 405": told(
        line(b"DELETE /v1/orders HTTP/1.1", b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, 405
    ),
    "request as the body of a 415": told(
        line(
            b"POST /v1/orders HTTP/1.1",
            b"Content-Type: text/plain",
            b"Content-Length: %d" % len(HIDDEN),
        )
        + HIDDEN,
        415,
    ),
    "chunks as the body of a GET": told(get(b"/v1/orders/o", CODED) + b"2\r\n{}\r\n0\r\n\r\n", 400),
    "no length and no body": told(post(b""), 400),
    "a body of 100 MB that does not come": told(
        post(b"", b"Content-Length: 99999999"), 413, stays=CLOSED
    ),
    "a body of 100 MB that is asked about": told(
        post(b"", b"Expect: 100-continue", b"Content-Length: 99999999"), 413, stays=CLOSED
    ),
}

CODINGS: dict[str, Case] = {
    "xchunked": Case(coded(b" xchunked")),
    "chunked, identity": Case(coded(b" chunked, identity")),
    "identity, chunked": Case(coded(b" identity, chunked")),
    # "A sender MUST NOT apply the chunked transfer coding more than once" -- RFC 9112 6.1
    "chunked, chunked": Case(coded(b" chunked, chunked")),
    "gzip, chunked": Case(coded(b" gzip, chunked")),
    "gzip": Case(coded(b" gzip")),
    "vertical tab before chunked": Case(coded(b"\x0bchunked")),
    "quoted chunked": Case(coded(b' "chunked"')),
    "chunked with a parameter": Case(coded(b" chunked;q=1")),
    "chunked and a comma": Case(coded(b" chunked,")),
    "empty coding": Case(coded(b"")),
    "space before the colon": Case(post(CHUNKS, b"Transfer-Encoding : chunked")),
    "folded coding": Case(post(CHUNKS, b"Transfer-Encoding:\r\n chunked")),
    "TE.TE, identity last": Case(post(CHUNKS, CODED, b"Transfer-Encoding: identity")),
    "TE.TE, identity first": Case(post(CHUNKS, b"Transfer-Encoding: identity", CODED)),
    "TE.TE, chunked twice": Case(post(CHUNKS, CODED, CODED)),
    "coding after a bare CR": Case(post(CHUNKS, b"X: y\r" + CODED)),
    # "A server ... MUST treat ... as if the framing is faulty" -- RFC 9112 6.1
    "chunks in HTTP/1.0": Case(
        line(b"POST /v1/orders HTTP/1.0", b"Content-Type: application/json", CODED) + CHUNKS
    ),
    "chunKed": served(coded(b" chunKed")),
    "tab before chunked": served(coded(b"\tchunked")),
    "space after chunked": served(coded(b" chunked ")),
    # Another name is another header: the length counts.
    "coding with an underscore": served(post(ORDER, b"Transfer_Encoding: chunked", length=True)),
    # "a recipient MAY recognize a single LF as a line terminator" -- RFC 9112 2.2: a coding then.
    # "MAY recognize a single LF as a line terminator" -- RFC 9112 2.2: it is not, here.
    "coding after a bare LF": Case(post(CHUNKS, b"X: y\n" + CODED)),
}

CHUNKED: dict[str, Case] = {
    "size that is no number": Case(chunked(b"zz\r\n{}\r\n0\r\n\r\n")),
    "negative size": Case(chunked(b"-2\r\n{}\r\n0\r\n\r\n")),
    "size of 17 digits": Case(chunked(b"F" * 17 + b"\r\n{}")),
    "size with 0x": Case(chunked(b"0x" + CHUNKS)),
    "space before the size": Case(chunked(b" " + CHUNKS)),
    "no size": Case(chunked(b"\r\n" + ORDER + b"\r\n0\r\n\r\n")),
    "size that is too small": Case(chunked(b"5\r\n" + ORDER + b"\r\n0\r\n\r\n")),
    "no end of a chunk": Case(chunked(b"13\r\n" + ORDER + b"XX0\r\n\r\n")),
    "bare LF after the size": Case(chunked(b"13\n" + ORDER + b"\r\n0\r\n\r\n")),
    "bare LF after the data": Case(chunked(b"13\r\n" + ORDER + b"\n0\r\n\r\n")),
    "bare LF in an extension": Case(chunked(b"13;a\nb\r\n" + ORDER + b"\r\n0\r\n\r\n")),
    "bare CR in an extension": Case(chunked(b"13;a\rb\r\n" + ORDER + b"\r\n0\r\n\r\n")),
    "extension of 400 KB": Case(
        chunked(b"13;" + b"a" * 400_000 + b"\r\n" + ORDER + b"\r\n0\r\n\r\n")
    ),
    "trailer without a colon": Case(chunked(CHUNK + b"0\r\nnonsense\r\n\r\n")),
    "trailer of 70 KB": Case(chunked(CHUNK + b"0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n")),
    "extension": served(chunked(b"13;a=b\r\n" + ORDER + b"\r\n0;c\r\n\r\n")),
    "quoted extension": served(chunked(b'13;a="b;c"\r\n' + ORDER + b"\r\n0\r\n\r\n")),
    "zeros before the size": served(chunked(b"0" * 20 + CHUNKS)),
    "space after the size": Case(chunked(b"13 \r\n" + ORDER + b"\r\n0\r\n\r\n")),
    # "MUST NOT merge" what decides framing, routing or who asks -- RFC 9110 6.5.1; all are dropped.
    "trailers": served(chunked(CHUNK + b"0\r\nAuthorization: \xe9\r\nHost: y\r\n\r\n")),
    "a length for a trailer": Case(chunked(CHUNK + b"0\r\nContent-Length: 3\r\n\r\n")),
    "a request after the last chunk": served(chunked(CHUNKS) + HIDDEN, 200, 200, reached=2),
}
