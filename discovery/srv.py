"""
SRV records: one name answers with the port, the weight and the rank of every server.

    resolve = Records("127.0.0.1", 8600)        Consul's own DNS, or any other server
    await resolve("orders.service.consul")      endpoints, most wanted first

"A client MUST attempt to contact the target host with the lowest-numbered priority it can reach"
(RFC 2782): the endpoints of other priorities have weight 0, which means only when nothing else is
left.  Among equals a server of weight 0 counts as 1, since it is to be chosen seldom, not never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.message import Message

from discovery.model import Endpoint

TAGS = ("grpc",)
QUERY_SECONDS = 3.0


class Records:
    """Asks the machine's own name servers, or one at `server` and `port`."""

    def __init__(self, server: str = "", port: int = 53) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not server)
        if server:
            self._resolver.nameservers = [server]
            self._resolver.port = port
        self._resolver.lifetime = QUERY_SECONDS

    async def __call__(self, name: str) -> Sequence[Endpoint]:
        """Raises OSError where the name says nothing."""
        try:
            # Absolute: a search list would answer for another name than the one asked for.
            answer = await self._resolver.resolve(name.rstrip(".") + ".", "SRV")
            records = sorted(answer, key=lambda one: (one.priority, -one.weight, one.port))
            hosts = _additional(answer.response)
            missing = {one.target for one in records} - hosts.keys()
            found = await asyncio.gather(*(self._addresses(target) for target in missing))
        except dns.exception.DNSException as error:
            raise OSError(str(error) or type(error).__name__) from error
        hosts |= dict(zip(missing, found, strict=True))
        first = min(one.priority for one in records)
        return [
            Endpoint(
                f"{address}:{one.port}",
                address,
                one.port,
                TAGS,
                {"target": str(one.target).rstrip(".")},
                max(1, one.weight) if one.priority == first else 0,
            )
            for one in records
            for address in hosts[one.target]
        ]

    async def _addresses(self, target: dns.name.Name) -> Sequence[str]:
        """A target that has no address is one server less, not an error of the whole name."""
        try:
            found = await self._resolver.resolve_name(target)
        except dns.resolver.NXDOMAIN:
            return []
        return list(found.addresses())


def _additional(message: Message) -> dict[dns.name.Name, Sequence[str]]:
    """The addresses that a server sends along, so that nobody has to ask for them."""
    found: dict[dns.name.Name, list[str]] = {}
    for rrset in message.additional:
        if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            found.setdefault(rrset.name, []).extend(_texts(rrset))
    return dict(found)


def _texts(rrset: Iterable[object]) -> list[str]:
    return [str(one) for one in rrset]
