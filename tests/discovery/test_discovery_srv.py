"""SRV records: from a name server that does as it is told, and from the real Consul's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import aiohttp
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from discovery import DiscoveryError, Snapshot, connect

from .conftest import free_ports, real_consul

SECONDS = 5.0
Zone = Mapping[tuple[str, str], list[str]]


class NameServer(asyncio.DatagramProtocol):
    """Answers from `zone`, (name, type) to records; what is not in it does not exist."""

    def __init__(self) -> None:
        self.zone: Zone = {}
        self.additional: list[tuple[str, str, str]] = []
        self.fails = False
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | object, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        name, kind = str(question.name), dns.rdatatype.to_text(question.rdtype)
        found = self.zone.get((name, kind), [])
        if self.fails:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif found:
            reply.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, *found))
            for owner, sort, text in self.additional:
                reply.additional.append(dns.rrset.from_text(owner, 1, "IN", sort, text))
        elif not any(owner == name for owner, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        assert self._transport is not None
        self._transport.sendto(reply.to_wire(), address)


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[NameServer, str]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0), family=socket.AF_INET
    )
    try:
        yield server, f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


NAME = "_grpc._tcp.orders.test."


def shown(snapshot: Snapshot) -> list[tuple[str, int]]:
    return [(one.address, one.weight) for one in snapshot.endpoints]


async def test_records_say_ports_weights_and_ranks() -> None:
    async with name_server() as (server, at):
        server.zone = {
            (NAME, "SRV"): ["1 10 5001 a.test.", "1 0 5002 b.test.", "2 9 5003 a.test."],
            ("a.test.", "A"): ["10.0.0.1"],
            ("b.test.", "A"): ["10.0.0.2", "10.0.0.3"],
        }
        registry = connect(f"dns://_grpc._tcp.{{service}}.test?server={at}")
        async with registry, aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
            snapshot = await anext(watch)

    assert shown(snapshot) == [
        ("10.0.0.1:5001", 10),
        ("10.0.0.1:5003", 0),
        ("10.0.0.2:5002", 1),
        ("10.0.0.3:5002", 1),
    ]
    assert snapshot.endpoints[0].meta == {"target": "a.test"}


async def test_addresses_that_are_sent_along_are_not_asked_for() -> None:
    async with name_server() as (server, at):
        server.zone = {(NAME, "SRV"): ["1 1 5001 sent.test.", "1 1 5002 gone.test."]}
        server.additional = [("sent.test.", "A", "10.0.0.7"), ("sent.test.", "AAAA", "fd00::7")]
        registry = connect(f"dns://_grpc._tcp.orders.test?server={at}")
        async with registry, aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
            snapshot = await anext(watch)

    assert shown(snapshot) == [("10.0.0.7:5001", 1), ("[fd00::7]:5001", 1)]


async def test_a_name_that_fails_keeps_the_last_servers_and_a_change_is_seen() -> None:
    async with name_server() as (server, at):
        zone = {("a.test.", "A"): ["10.0.0.1"]}
        server.zone = zone | {(NAME, "SRV"): ["1 1 5001 a.test."]}
        registry = connect(f"dns://_grpc._tcp.orders.test?server={at}&interval=0.02")
        async with registry, aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
            news = [await anext(watch)]
            server.fails = True
            news.append(await anext(watch))
            server.zone = zone | {(NAME, "SRV"): ["1 1 5002 a.test."]}
            server.fails = False
            news.append(await anext(watch))

    assert [[one.port for one in snapshot.endpoints] for snapshot in news] == [
        [5001],
        [5001],
        [5002],
    ]
    assert [snapshot.stale_since is not None for snapshot in news] == [False, True, False]


async def test_consuls_own_name_server_is_read(tmp_path: Path) -> None:
    with free_ports(1) as (port,):
        more = f"-dns-port={port}"
    async with (
        real_consul(tmp_path, more) as address,
        aiohttp.ClientSession() as session,
        connect(f"dns://{{service}}.service.consul?server=127.0.0.1:{port}") as registry,
    ):
        for number in (1, 2):
            body = {"Name": "orders", "ID": f"o{number}", "Address": f"127.0.0.{number}"}
            body |= {"Port": 5000 + number, "Weights": {"Passing": number, "Warning": 1}}
            url = f"http://{address}/v1/agent/service/register"
            async with session.put(url, json=body) as response:
                assert response.status == 200
        async with aclosing(registry.watch("orders")) as watch, asyncio.timeout(SECONDS):
            snapshot = await anext(watch)

    assert shown(snapshot) == [("127.0.0.1:5001", 1), ("127.0.0.2:5002", 2)]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("dns://orders:1?server=127.0.0.1", "server is for names without a port"),
        ("dns://orders?server=nobody", "server 'nobody'"),
        ("dns://orders?server=127.0.0.1:x", "server '127.0.0.1:x'"),
        ("dns://orders?interval=0", "interval '0'"),
        ("dns://orders?zone=a", "'zone' is not service, interval or server"),
    ],
)
def test_a_wrong_url_is_refused_by_name(url: str, why: str) -> None:
    with pytest.raises(DiscoveryError, match=why):
        connect(url)
