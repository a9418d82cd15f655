"""TLS and per-call credentials: as on a plain secure channel, on one link an endpoint."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mesh import Policy
from tests.loopback.town import Flaky, Town, method

NAME = "town.example"
OPTIONS = (("grpc.ssl_target_name_override", NAME),)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A key and a certificate of our own."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate, and is not here")
    place: Path = tmp_path_factory.mktemp("tls")
    key, certificate = place / "key.pem", place / "certificate.pem"
    subject = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}")
    files = ("-keyout", str(key), "-out", str(certificate))
    command = (openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    subprocess.run(
        [*command, *files, *subject],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return key.read_bytes(), certificate.read_bytes()


@pytest.fixture
async def flaky(town: Town, pair: tuple[bytes, bytes]) -> AsyncIterator[Flaky]:
    flaky = Flaky("one")
    server = grpc.aio.server(handlers=(flaky,))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    await town.register("one", port)
    yield flaky
    await server.stop(0)


@pytest.fixture(params=["plain", "mesh"])
async def channel(request: Any, town: Town, flaky: Flaky, pair: Any) -> AsyncIterator[Any]:
    trusted = grpc.ssl_channel_credentials(pair[1])
    if request.param == "mesh":
        opened: Any = town.channel(Policy(), credentials=trusted, options=OPTIONS)
    else:
        port = town.registry._instances["one"].port
        opened = grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted, OPTIONS)
    async with opened as channel:
        yield channel


async def test_calls_are_made_over_tls(channel):
    assert await method(channel)(b"", timeout=5) == b"one"


async def test_a_call_carries_its_own_credentials(channel, flaky):
    token = grpc.access_token_call_credentials("secret")
    assert await method(channel)(b"", timeout=5, credentials=token) == b"one"
    stream = method(channel, "unary_stream")(b"", timeout=5, credentials=token)
    assert await stream.read() == b"one"
    assert [seen.get("authorization") for seen in flaky.seen] == ["Bearer secret"] * 2
