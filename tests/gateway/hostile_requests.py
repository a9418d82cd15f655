"""The other hostile requests: lines, hosts, targets, versions, upgrades, headers and bodies."""

from __future__ import annotations

import gzip
import zlib

from tests.gateway.hostile import CLOSED, GET, HIDDEN, ORDER, Case, get, line, post, served, told

ORDERS = b"/v1/orders/o"
SOCKET = b"/v1/notifications:subscribe"
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
OPENING = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: " + b"A" * 22 + b"==",
)


def said(header: bytes) -> bytes:
    return get(ORDERS, header)


def packed(body: bytes, coding: bytes) -> bytes:
    return post(body, b"Content-Encoding: " + coding, length=True)


def json(body: bytes) -> Case:
    return told(post(body, length=True), 400)


LINES: dict[str, Case] = {
    "bare CR in a value": Case(said(b"X: a\rb")),
    "lines that end in CR": Case(GET + b"\rHost: x\r\r"),
    "folded by a space": Case(said(b"X: a\r\n b")),
    "folded by a tab": Case(said(b"X: a\r\n\tb")),
    "space before a colon": Case(said(b"X : a")),
    "tab before a colon": Case(said(b"X\t: a")),
    "no colon": Case(said(b"nonsense")),
    "no name": Case(said(b": x")),
    "NUL in a value": Case(said(b"X: a\x00b")),
    "NUL in a name": Case(said(b"X\x00: a")),
    "control character in a value": Case(said(b"X: a\x01b")),
    "DEL in a value": Case(said(b"X: a\x7fb")),
    "a name that is not ASCII": Case(said(b"X\xe9: a")),
    "a bracket in a name": Case(said(b"X(: a")),
    "a pseudo-header": Case(said(b":authority: evil")),
    "space before the first header": Case(GET + b"\r\n Host: x\r\n\r\n"),
    "space before the request": Case(b" " + get()),
    "5000 headers": Case(get(ORDERS, *[b"A: b"] * 5000), (431,)),
    "a header of 200 KB": Case(said(b"X: " + b"a" * 200_000), (431,)),
    "a name of 70 KB": Case(said(b"X" * 70_000 + b": a"), (431,)),
    "headers of 40 KB": told(said(b"X: " + b"a" * 40_000), 431),
    "a target of 200 KB": Case(get(b"/v1/orders/" + b"a" * 200_000), (431,)),
    # "SHOULD ignore at least one empty line (CRLF) received prior to the request-line"
    "empty lines before the request": served(b"\r\n\r\n" + get()),
    "lines that end in LF": Case(GET + b"\nHost: x\n\n"),
    "TLS": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60),
    "SSH": Case(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "rubbish": Case(bytes(range(256)) * 4),
}

# RFC 9112 3.2: 400 to a Host that is missing, doubled or none.
HOSTS: dict[str, Case] = {
    "no Host": Case(get(host=b"")),
    "two Hosts": Case(said(b"Host: y")),
    "the same Host twice": Case(said(b"Host: x")),
    **{
        f"Host {name}": Case(get(host=b"Host: " + value))
        for name, value in {
            "empty": b"",
            "with a space": b"a b",
            "with a path": b"x/y",
            "with a user": b"u@x",
            "list": b"x, y",
            "with letters for a port": b"x:8a",
            "with half a bracket": b"[::1",
            "with a query": b"x?y",
            "with a fragment": b"x#y",
            "that is not ASCII": b"\xe9",
            "with a backslash": b"x\\y",
            "in quotes": b'"x"',
        }.items()
    },
    "Host in brackets": served(get(host=b"Host: [::1]:8080")),
    "Host with an escape": served(get(host=b"Host: a%2Db")),
}

TARGETS: dict[str, Case] = {
    "absolute form": served(get(b"http://x/v1/orders/o")),
    "absolute form of another host": served(get(b"http://evil.example/v1/orders/o")),
    "absolute form without a host": Case(get(b"http:///v1/orders/o")),
    "authority form": Case(get(b"example.com:80")),
    "asterisk form": Case(get(b"*")),
    "asterisk form of OPTIONS": told(line(b"OPTIONS * HTTP/1.1"), 204),
    "CONNECT": Case(line(b"CONNECT example.com:443 HTTP/1.1")),
    "CONNECT and a request": Case(line(b"CONNECT example.com:443 HTTP/1.1") + HIDDEN),
    "CONNECT of a path": told(line(b"CONNECT /v1/orders HTTP/1.1"), 405),
    "TRACE": told(line(b"TRACE /v1/orders/o HTTP/1.1", b"Max-Forwards: 0"), 405),
    "method in small letters": told(line(b"get /v1/orders/o HTTP/1.1"), 405),
    "method that nobody knows": told(line(b"BREW /v1/orders/o HTTP/1.1"), 405),
    "method that only others have": told(line(b"PROPFIND /v1/orders/o HTTP/1.1"), 405),
    "method that is no token": Case(line(b"G@T /v1/orders/o HTTP/1.1")),
    "no method": Case(line(b" /v1/orders/o HTTP/1.1")),
    "method of another header": served(said(b"X-HTTP-Method-Override: DELETE")),
    "no slash": Case(get(b"v1/orders")),
    "space in the target": Case(get(b"/v1/or ders")),
    # "recipients MAY instead parse on whitespace-delimited word boundaries" -- RFC 9112 3.
    "two spaces": served(line(b"GET  /v1/orders/o HTTP/1.1")),
    "tab for a space": Case(line(b"GET\t/v1/orders/o HTTP/1.1")),
    "space after the version": Case(line(GET + b" ")),
    "HTTP/0.9": Case(b"GET /v1/orders/o\r\n\r\n"),
    "HTTP/1.0": served(b"GET /v1/orders/o HTTP/1.0\r\n\r\n", stays=CLOSED),
    "HTTP/1.2": Case(line(b"GET /v1/orders/o HTTP/1.2")),
    "HTTP/1.11": Case(line(b"GET /v1/orders/o HTTP/1.11")),
    "HTTP/2.0": Case(line(b"GET /v1/orders/o HTTP/2.0")),
    "HTTP/9.9": Case(line(b"GET /v1/orders/o HTTP/9.9")),
    "http/1.1": Case(line(b"GET /v1/orders/o http/1.1")),
    "preface of HTTP/2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4" + b"\0" * 5, ()),
}

# What is decoded is data: an id may hold dots and slashes, a path may not climb.
PATHS: dict[str, Case] = {
    **{
        f"path {name}": told(get(path), 404)
        for name, path in {
            "with dots": b"/v1/../../etc/passwd",
            "with dots for a segment": b"/v1/orders/../o",
            "with encoded dots": b"/v1/%2e%2e/%2e%2e/etc",
            "with dots and a semicolon": b"/v1/orders/..;/o",
            "with a parameter": b"/v1/orders;a=b/o",
            "with NUL": b"/healthz%00",
            "with two slashes": b"//v1/orders/o",
            "with an encoded slash": b"/v1%2forders/o",
            "with backslashes": b"/v1\\orders\\o",
            "that ends in a slash": b"/v1/orders/o/",
            "of 3000 segments": b"/" + b"a/" * 3000,
            "out of the docs": b"/docs/../openapi.json",
            "of the admin port": b"/admin/config",
            "of gRPC": b"/shop.orders.v1.OrderService/GetOrder",
            "in capitals": b"/V1/orders/o",
        }.items()
    },
    **{
        f"id {name}": told(get(b"/v1/orders/" + text), 400)
        for name, text in {
            "overlong": b"%c0%af",
            "overlong dots": b"%c0%ae%c0%ae",
            "half a surrogate": b"%ed%a0%80",
            "half an escape": b"%2",
            "no escape": b"%zz",
            "%u": b"%u002e",
        }.items()
    },
    "NUL in the target": Case(get(b"/v1/orders/\x00")),
    "Latin-1 in the target": Case(get(b"/v1/orders/\xe9")),
    "an id of dots": served(get(b"/v1/orders/%2e%2e")),
    "an id encoded twice": served(get(b"/v1/orders/%252e%252e%252f")),
    "an id with slashes": served(get(b"/v1/orders/..%2f..%2fetc")),
    "an id with a line end": served(get(b"/v1/orders/a%0d%0aX:%20y")),
    "a query with a line end": served(get(b"/v1/orders?page_token=%0d%0aX:y")),
    "a query with a space": Case(get(b"/v1/orders?page_token=a b")),
    "a query of 5000 names": told(
        get(b"/v1/orders?" + b"&".join(b"a%d=1" % n for n in range(5000))), 400
    ),
    "a query name of 5000 parts": told(get(b"/v1/orders?" + b"a." * 5000 + b"b=1"), 400),
    "a parameter twice": told(get(b"/v1/orders?page_size=1&page_size=2"), 400),
}

CONNECTIONS: dict[str, Case] = {
    "upgrade to h2c": served(get(ORDERS, *H2C)),
    "upgrade to h2c, and its preface": served(
        get(ORDERS, *H2C) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", stays=CLOSED
    ),
    "upgrade to TLS": served(get(ORDERS, b"Connection: Upgrade", b"Upgrade: TLS/1.0")),
    "socket where none is": told(
        get(ORDERS, *OPENING, b"Sec-WebSocket-Version: 13") + HIDDEN, 400, stays=CLOSED
    ),
    "socket of another version": told(get(SOCKET, *OPENING, b"Sec-WebSocket-Version: 777"), 426),
    "socket without a key": told(get(SOCKET, *OPENING[:2], b"Sec-WebSocket-Version: 13"), 426),
    "socket of another page": told(
        get(SOCKET, *OPENING, b"Sec-WebSocket-Version: 13", b"Origin: http://evil.example"),
        403,
        stays=CLOSED,
    ),
    "headers named by Connection": served(
        said(b"Connection: close, host, x-request-id"), stays=CLOSED
    ),
    "Expect: 100-continue": served(post(ORDER, b"Expect: 100-continue", length=True), 100, 200),
    "Expect of something else": served(post(ORDER, b"Expect: 200-ok", length=True)),
    "three requests at once": served(get() * 3, 200, 200, 200, reached=3),
    "a bad request after a good one": served(
        get() + line(b"G@T / HTTP/1.1") + HIDDEN, 200, 400, stays=CLOSED
    ),
    "a good request after a bad one": Case(line(b"G@T / HTTP/1.1") + HIDDEN),
    "a request after the last one": served(said(b"Connection: close") + HIDDEN, stays=CLOSED),
    "a request in a body that is too large": Case(
        post(b"x" * 100 + HIDDEN, b"Content-Length: 9999999"), (413,)
    ),
}

HEADERS: dict[str, Case] = {
    **{
        f"header {name}": told(said(header), 400)
        for name, header in {
            "that is not ASCII": b"Authorization: \xe9",
            "connection as metadata": b"Grpc-Metadata-Connection: close",
            "timeout as metadata": b"Grpc-Metadata-Grpc-Timeout: 1S",
            "TE as metadata": b"Grpc-Metadata-TE: trailers",
            "principal as metadata": b"Grpc-Metadata-X-Mesh-Principal: user:root",
            "metadata without a name": b"Grpc-Metadata-: x",
            "metadata of a pseudo-header": b"Grpc-Metadata-:path: /x",
            "metadata that is no base64": b"Grpc-Metadata-K-Bin: %%%",
            "timeout with an exponent": b"Grpc-Timeout: 1e9S",
            "negative timeout": b"Grpc-Timeout: -1S",
            "two timeouts": b"Grpc-Timeout: 1S\r\nGrpc-Timeout: 2S",
            "two keys": b"Idempotency-Key: a\r\nIdempotency-Key: b",
        }.items()
    },
    **{
        f"header {name}": served(said(header))
        for name, header in {
            "principal": b"X-Mesh-Principal: user:root",
            "of Envoy": b"X-Envoy-Upstream-Rq-Timeout-Ms: 1",
            "with a line end in base64": b"Grpc-Metadata-K-Bin: DQpYOiB5",
            "range": b"Range: bytes=0-1",
            "1000 ranges": b"Range: bytes=" + b"0-1," * 1000,
            "accept that is none": b"Accept: ;;;q=,",
            "traceparent that is none": b"Traceparent: garbage",
            "forwarded for a script": b"X-Forwarded-For: <script>",
        }.items()
    },
    "metadata that gRPC has no room for": told(
        said(b"X-Forwarded-For: " + b"1.1.1.1, " * 2000), 431
    ),
}

BOMB = gzip.compress(b'{"note": "' + b"x" * (64 << 20) + b'"}')
BODIES: dict[str, Case] = {
    "gzip bomb": told(packed(BOMB, b"gzip"), 413, stays=CLOSED),
    "gzip": served(packed(gzip.compress(ORDER), b"gzip")),
    "x-gzip": served(packed(gzip.compress(ORDER), b"x-gzip")),
    "deflate": told(packed(zlib.compress(ORDER), b"deflate"), 415),
    "br": told(packed(ORDER, b"br"), 415),
    "gzip in gzip": told(packed(gzip.compress(gzip.compress(ORDER)), b"gzip, gzip"), 415),
    "gzip that is none": told(packed(ORDER, b"gzip"), 400),
    "gzip cut short": told(packed(gzip.compress(ORDER)[:-5], b"gzip"), 400),
    "gzip of two members": told(packed(gzip.compress(b"{") + gzip.compress(b"}"), b"gzip"), 400),
    "gzip and something more": told(packed(gzip.compress(ORDER) + HIDDEN, b"gzip"), 400),
    "gzip with another checksum": told(packed(gzip.compress(ORDER)[:-8] + b"\0" * 8, b"gzip"), 400),
    "JSON 60000 deep": json(b"[" * 60_000),
    "JSON 101 deep": json(b'{"a":' * 101 + b"1" + b"}" * 101),
    "a number of 9001 digits": json(b'{"note": ' + b"9" * 9001 + b"}"),
    "a number of 10^999999999": json(b'{"items": [{"quantity": 1e999999999}]}'),
    "100000 keys": json(b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}"),
    "a key twice": json(b'{"note": "a", "note": "b"}'),
    "a field in both spellings": json(b'{"customerId": "a", "customer_id": "b"}'),
    "byte order mark": json(b"\xef\xbb\xbf{}"),
    "UTF-16": json("{}".encode("utf-16")),
    "half of a character": json(b'{"note": "\xc3"}'),
    "half of a surrogate pair": json(b'{"note": "\\ud800"}'),
    "NaN": json(b'{"note": NaN}'),
    "two values": json(b"{}{}"),
    "__proto__": json(b'{"__proto__": {"a": 1}}'),
}
