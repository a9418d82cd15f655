"""Bytes that no honest client sends: each is refused or closed, and others are served beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

HOST = b"Host: x\r\n"
POST = b"POST /v1/orders HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"

CASES: dict[str, bytes] = {
    # Smuggling: two lengths, or a length and chunks, or chunks in disguise.
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "length list": POST + b"Content-Length: 2, 3\r\n\r\n{}x",
    "negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "hex length": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding with a tab": POST + b"Transfer-Encoding:\tgzip\r\n\r\n0\r\n\r\n",
    "space before colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "huge chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}",
    "chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    # The head.
    "no version": b"GET /healthz\r\n\r\n",
    "wrong version": b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n",
    "lower version": b"GET /healthz http/1.1\r\n" + HOST + b"\r\n",
    "no path": b"GET  HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in path": b"GET /v1/or ders HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in path": b"GET /v1/\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "folded header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "header without colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "empty header name": b"GET /healthz HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "bad method": b"G@T /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    "a long header": b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "a long path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
    "rubbish": bytes(range(256)) * 4,
    # The paths and bodies that an application must refuse.
    "dots": b"GET /v1/../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "encoded dots": b"GET /v1/%2e%2e/%2e%2e/etc HTTP/1.1\r\n" + HOST + b"\r\n",
    "encoded NUL": b"GET /nowhere/%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "overlong UTF-8": b"GET /v1/orders/%c0%af HTTP/1.1\r\n" + HOST + b"\r\n",
    "half an escape": b"GET /v1/orders/%2 HTTP/1.1\r\n" + HOST + b"\r\n",
    "doubled slash": b"GET //v1/orders HTTP/1.1\r\n" + HOST + b"\r\n",
    "latin-1 header": b"GET /v1/orders/o HTTP/1.1\r\n" + HOST + b"Authorization: \xe9\r\n\r\n",
    "deep JSON": POST + b"Content-Length: 60000\r\n\r\n" + b"[" * 60000,
    "huge number": POST + b"Content-Length: 9011\r\n\r\n" + b'{"note": ' + b"9" * 9001 + b"}",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /v1/orders HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form": b"GET http://evil/nowhere HTTP/1.1\r\n" + HOST + b"\r\n",
}


async def said(url: str, raw: bytes, *, end: bool = True) -> bytes:
    """What the gateway answers to raw bytes, until it closes or has nothing to say."""
    port = int(url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(raw)
        if end:
            writer.write_eof()
        async with asyncio.timeout(3):
            while piece := await reader.read(65536):
                answer += piece
    except (OSError, TimeoutError):
        pass
    finally:
        writer.close()
    return answer


@pytest.mark.parametrize("name", CASES)
async def test_hostile_bytes_are_refused_and_others_are_served(shop: Any, name: str) -> None:
    answer = await said(shop.url, CASES[name])
    status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0

    assert status == 0 or 400 <= status < 500, answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1, answer[:400]
    assert (await shop.ask("GET", "/healthz"))[0] == 200


async def test_pipelined_requests_are_answered_in_their_order(shop: Any) -> None:
    one = b"GET /v1/orders/%s HTTP/1.1\r\nHost: x\r\n"
    raw = one % b"a" + b"\r\n" + one % b"b" + b"\r\n" + one % b"c" + b"Connection: close\r\n\r\n"
    answer = await said(shop.url, raw, end=False)

    assert answer.count(b"HTTP/1.1 200") == 3
    assert (
        answer.index(b'"orderId":"a"')
        < answer.index(b'"orderId":"b"')
        < answer.index(b'"orderId":"c"')
    )


async def test_lengths_and_chunks_together_are_one_request_or_none(shop: Any) -> None:
    """RFC 9112 6.1: chunks win and the connection is closed, or it is refused."""
    hidden = b"GET /v1/orders/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden

    answer = await said(shop.url, raw)

    assert b"smuggled" not in answer
