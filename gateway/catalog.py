"""
Everything that is served right now, in one value that is swapped in one assignment.

Pages come first, then services in the order in which they became known, then the versions of each
from the newest to the oldest: together they are the union, and whoever was there first keeps a
path.  What cannot be served is left out and said once, never a reason to stop serving the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.compose import PageRoute
from gateway.contract import Contract
from gateway.exchange import Answer, Exchange
from gateway.rest import Served
from gateway.router import Ambiguous, Router
from gateway.routes import RouteError, routes
from gateway.rule import Template
from gateway.upstream import Upstream

log = logging.getLogger(__name__)


class Entry(Protocol):
    """What the router leads to: an rpc's route or a page."""

    @property
    def http_method(self) -> str: ...

    @property
    def template(self) -> Template: ...

    @property
    def name(self) -> str: ...

    async def answer(self, exchange: Exchange, segments: list[str]) -> Answer: ...


@dataclass(slots=True)
class Version:
    """One version of a service: its contract and its routes, ready to be called."""

    contract: Contract
    served: list[Served] = field(default_factory=list)

    @property
    def paths(self) -> set[str]:
        """Its methods, as the wire has them."""
        return {rpc.path for rpc in self.contract.rpcs.values()}

    @classmethod
    def of(cls, contract: Contract, target: str, channel: Upstream) -> Version:
        version = cls(contract)
        channel.learn(contract.rpcs.values())
        for rpc in contract.rpcs.values():
            try:
                version.served.extend(Served(route, channel) for route in routes(rpc, target))
            except RouteError as error:
                log.warning("%s: not served: %s", target, error)
        return version


@dataclass(slots=True)
class Catalog:
    """A router and what it was made of."""

    router: Router[Entry] = field(default_factory=Router)
    services: tuple[str, ...] = ()
    # Whether the registry has answered: before that no route means nothing.
    answered: bool = False
    # Whether an old service has paths here too; see gateway.strangler.
    legacy: bool = False

    @property
    def ready(self) -> bool:
        known = bool(self.services) or self.legacy
        return self.answered and known and bool(self.router.entries)


def catalog(
    pages: Iterable[PageRoute],
    services: Mapping[str, Sequence[Version]],
    conflicts: set[str],
    *,
    answered: bool,
) -> Catalog:
    """The union; a path that two want is logged once, by way of `conflicts`."""
    made = Catalog(services=tuple(services), answered=answered)
    for page in pages:
        made.router.add(page)
    for name, versions in services.items():
        for version in versions:
            for served in version.served:
                try:
                    made.router.add(served)
                except Ambiguous as error:
                    same = error.old.name == error.new.name and len(versions) > 1
                    if not same and str(error) not in conflicts:
                        conflicts.add(str(error))
                        log.warning("%s: not served, the path is taken: %s", name, error)
    return made
