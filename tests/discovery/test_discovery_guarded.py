"""A Consul that trusts nobody: TLS with client certificates, ACLs that deny, a unix socket."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from discovery import Check, DiscoveryError, Instance, Snapshot, from_environment

from .conftest import free_ports, real_consul

SECONDS = 8.0
MASTER = "11111111-2222-3333-4444-555555555555"
ORDERS = Instance("orders", "127.0.0.1", 5001, check=Check("ttl", ttl=600.0))
PAYMENTS = Instance("payments", "127.0.0.1", 5002, check=Check("ttl", ttl=600.0))


@dataclass
class Guarded:
    """Where it is, and what gets in."""

    http: str
    https: str
    socket: Path
    files: Path

    def reached(self, **more: str) -> dict[str, str]:
        """The variables of a client that is let in, or with `more` of them, perhaps not."""
        return {
            "CONSUL_HTTP_ADDR": self.https,
            "CONSUL_CACERT": str(self.files / "ca.pem"),
            "CONSUL_CLIENT_CERT": str(self.files / "client.pem"),
            "CONSUL_CLIENT_KEY": str(self.files / "client.key"),
            "CONSUL_HTTP_TOKEN": MASTER,
        } | more


def certificates(directory: Path) -> None:
    """A CA, and what it signed: a server for 127.0.0.1 and a client."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA")
    run("req", "-x509", *key, "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=other")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:server.dc1.consul\n")
    for name in ("server", "client"):
        run(
            "req",
            *key[:-2],
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        run(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            *signed,
            "-extfile",
            "names",
            "-out",
            f"{name}.pem",
        )


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    files = tmp_path_factory.mktemp("guarded")
    certificates(files)
    with free_ports(1) as (https,):
        config = {
            "ports": {"https": https},
            "addresses": {"http": f"127.0.0.1 unix://{files}/http.sock"},
            "ca_file": f"{files}/ca.pem",
            "cert_file": f"{files}/server.pem",
            "key_file": f"{files}/server.key",
            "verify_incoming_https": True,
            "acl": {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": MASTER, "agent": MASTER},
            },
        }
    (files / "consul.json").write_text(json.dumps(config))
    more = f"-config-file={files}/consul.json"
    async with real_consul(files, more, token=MASTER) as address:
        yield Guarded(f"http://{address}", f"https://127.0.0.1:{https}", files / "http.sock", files)


async def first(environ: Mapping[str, str], service: str = "orders") -> Snapshot:
    async with (
        from_environment(environ) as registry,
        aclosing(registry.watch(service)) as watch,
        asyncio.timeout(SECONDS),
    ):
        return await anext(watch)


async def registered(environ: Mapping[str, str], instance: Instance) -> Snapshot:
    """What a watch sees while the instance is registered."""
    async with (
        asyncio.timeout(SECONDS),
        from_environment(environ) as registry,
        registry.register(instance),
        aclosing(registry.watch(instance.service)) as watch,
    ):
        async for snapshot in watch:
            if snapshot.endpoints:
                return snapshot
    raise AssertionError("the watch ended")


async def test_a_client_with_all_it_needs_is_let_in(guarded: Guarded) -> None:
    snapshot = await registered(guarded.reached(), ORDERS)

    assert [one.address for one in snapshot.endpoints] == ["127.0.0.1:5001"]
    assert snapshot.stale_since is None


async def test_the_scheme_may_come_from_its_own_variable(guarded: Guarded) -> None:
    environ = guarded.reached(
        CONSUL_HTTP_ADDR=guarded.https.removeprefix("https://"), CONSUL_HTTP_SSL="true"
    )
    assert (await registered(environ, ORDERS)).endpoints


async def test_the_socket_of_an_agent_is_reached(guarded: Guarded) -> None:
    environ = {"CONSUL_HTTP_ADDR": f"unix://{guarded.socket}", "CONSUL_HTTP_TOKEN": MASTER}
    assert (await registered(environ, ORDERS)).endpoints


async def test_a_server_name_of_its_own_is_checked(guarded: Guarded) -> None:
    named = guarded.reached(CONSUL_TLS_SERVER_NAME="server.dc1.consul")
    other = guarded.reached(CONSUL_TLS_SERVER_NAME="server.dc2.consul")

    assert (await first(named)).stale_since is None
    assert (await first(other)).stale_since is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"CONSUL_CACERT": ""}, "certificate verify failed"),
        ({"CONSUL_CACERT": "{files}/other.pem"}, "certificate verify failed"),
        ({"CONSUL_CLIENT_CERT": "", "CONSUL_CLIENT_KEY": ""}, "Error"),
        ({"CONSUL_HTTP_ADDR": "{http}", "CONSUL_HTTP_SSL": "true"}, "SSL"),
        ({"CONSUL_HTTP_TOKEN": "99999999-2222-3333-4444-555555555555"}, "ACL not found"),
    ],
)
async def test_a_client_that_lacks_something_says_what(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, change: dict[str, str], told: str
) -> None:
    filled = {
        name: value.format(files=guarded.files, http=guarded.http) for name, value in change.items()
    }
    snapshot = await first(guarded.reached(**filled))

    assert snapshot.stale_since is not None
    assert told in caplog.text


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("CONSUL_CACERT", "nobody.pem"),
        ("CONSUL_CACERT", "ca.key"),
        ("CONSUL_CLIENT_CERT", "ca.key"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(
    guarded: Guarded, variable: str, file: str
) -> None:
    with pytest.raises(DiscoveryError, match=f"{variable}=.*{file}"):
        await first(guarded.reached(**{variable: str(guarded.files / file)}))


async def test_verification_can_be_switched_off(guarded: Guarded) -> None:
    environ = guarded.reached(CONSUL_CACERT="", CONSUL_HTTP_SSL_VERIFY="false")
    assert (await first(environ)).stale_since is None


async def test_a_missing_token_is_told_where_nobody_seems_to_be_there(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    async with from_environment(guarded.reached()) as registry, registry.register(ORDERS):
        snapshot = await first_and_next(guarded.reached(CONSUL_HTTP_TOKEN=""), caplog)

    # Consul answers 200 and []: nothing but the log tells it from a service without servers.
    assert snapshot.endpoints == ()
    assert snapshot.stale_since is None
    assert "requires an ACL token and none is set" in caplog.text


async def first_and_next(environ: Mapping[str, str], caplog: pytest.LogCaptureFixture) -> Snapshot:
    """The first snapshot; the watch goes on until it has said something."""
    async with (
        asyncio.timeout(SECONDS),
        from_environment(environ) as registry,
        aclosing(registry.watch("orders")) as watch,
    ):
        snapshot = await anext(watch)
        going_on = asyncio.ensure_future(anext(watch))
        while not caplog.records:
            await asyncio.sleep(0.01)
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
        return snapshot


async def test_a_registration_without_a_token_is_refused(guarded: Guarded) -> None:
    with pytest.raises(DiscoveryError, match=r"orders-.*-5001 was not registered: .*denied"):
        await registered(guarded.reached(CONSUL_HTTP_TOKEN=""), ORDERS)


async def test_a_token_for_one_service_registers_that_one(guarded: Guarded) -> None:
    rules = 'service "orders" { policy = "write" } node_prefix "" { policy = "read" }'
    headers = {"X-Consul-Token": MASTER}
    async with aiohttp.ClientSession(guarded.http, headers=headers) as session:
        policy = {"Name": "orders", "Rules": rules}
        async with session.put("/v1/acl/policy", json=policy) as response:
            assert response.status == 200, await response.text()
        token = {"Policies": [{"Name": "orders"}]}
        async with session.put("/v1/acl/token", json=token) as response:
            secret = (await response.json())["SecretID"]
    environ = guarded.reached(CONSUL_HTTP_TOKEN=secret)

    assert (await registered(environ, ORDERS)).endpoints
    with pytest.raises(DiscoveryError, match=r"payments-.*-5002 was not registered"):
        await registered(environ, PAYMENTS)


async def test_a_token_file_is_read_anew(
    guarded: Guarded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("99999999-2222-3333-4444-555555555555\n")
    environ = guarded.reached(CONSUL_HTTP_TOKEN_FILE=str(file))
    caplog.set_level(logging.INFO)
    async with (
        asyncio.timeout(SECONDS),
        from_environment(environ) as registry,
        aclosing(registry.watch("orders")) as watch,
    ):
        assert (await anext(watch)).stale_since is not None
        file.write_text(MASTER + "\n")
        assert (await anext(watch)).stale_since is None

    assert "ACL not found" in caplog.text
