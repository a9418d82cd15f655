"""
Routes follow the registry: a service registers, its routes appear; a new version, and the union.

    watch_services -> (tag "grpc") -> watch(name) -> reflection, instance by instance -> Catalog

All of it beside the requests, which see one Catalog or the next.  A service whose last instance
has left keeps its routes: a call then answers 503, not 404.  An instance is asked again every
`REPOLL_SECONDS`, since a restarted one may stand at the old address with a new contract.  Which
of two versions is the newer is what their instances' `version` says, in the registry's meta; where
it says nothing, the one that was learnt later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from discovery.model import Endpoint, Health
from discovery.registry import Registry
from gateway.catalog import Version
from gateway.contract import ContractError
from gateway.reflect import Reflection, ReflectionError, reflect
from gateway.upstream import Upstream

log = logging.getLogger(__name__)

TAG = "grpc"
META = "grpc_services"
VERSION = "version"
REPOLL_SECONDS = 15.0
RETRY_SECONDS = 0.5
# A warning is given once; so many are remembered.
MOST_SAID = 200

Rank = tuple[bool, tuple[tuple[bool, int, str], ...], bool, tuple[tuple[bool, int, str], ...]]
Publish = Callable[[str, Sequence[Version]], None]


class Following:
    """One service: its instances, and what each of them serves."""

    def __init__(self, name: str, registry: Registry, channel: Upstream, publish: Publish) -> None:
        self._name = name
        self._registry = registry
        self._channel = channel
        self._publish = publish
        self._endpoints: tuple[Endpoint, ...] = ()
        self._changed = asyncio.Event()
        self._asked: dict[str, tuple[Endpoint, str]] = {}  # by instance: whom, and its fingerprint
        # By fingerprint, the newest last.
        self._versions: dict[str, Version] = {}
        self._due: set[str] = set()  # who is asked again although its endpoint has not changed
        self._said: set[str] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._learn())

    async def _watch(self) -> None:
        async for snapshot in self._registry.watch(self._name, tag=TAG):
            self._endpoints = snapshot.endpoints
            self._changed.set()

    async def _learn(self) -> None:
        again = True
        while True:
            try:
                async with asyncio.timeout(RETRY_SECONDS if not again else REPOLL_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                if again:
                    self._due = set(self._asked)
            self._changed.clear()
            again = await self._ask()

    async def _ask(self) -> bool:
        """Ask every instance not asked yet; whether all of them have answered."""
        endpoints = {e.id: e for e in self._endpoints if e.health is not Health.CRITICAL}
        new = [
            endpoint
            for id_, endpoint in endpoints.items()
            if id_ in self._due or self._asked.get(id_, (None,))[0] != endpoint
        ]
        self._due.clear()
        answers = await asyncio.gather(*map(_reflect, new), return_exceptions=True)
        for endpoint, answer in zip(new, answers, strict=True):
            if isinstance(answer, ReflectionError | ContractError):
                self._say(f"{endpoint.id} cannot be learnt from: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            elif self._know(endpoint, answer):
                self._asked[endpoint.id] = (endpoint, answer.fingerprint)
        self._asked = {id_: seen for id_, seen in self._asked.items() if id_ in endpoints}
        self._settle()
        return all(id_ in self._asked for id_ in endpoints)

    def _know(self, endpoint: Endpoint, answer: Reflection) -> bool:
        if answer.fingerprint not in self._versions:
            try:
                contract = answer.contract()
            except ContractError as error:
                self._say(f"{endpoint.id} cannot be served: {error}")
                return False
            version = Version.of(contract, self._name, self._channel)
            self._versions[answer.fingerprint] = version
        return True

    def _settle(self) -> None:
        """Forget versions that nobody runs any more, unless that would be all; publish the rest."""
        before = list(self._versions)
        running = {fingerprint for _, fingerprint in self._asked.values()}
        if running:
            known = sorted(running & self._versions.keys(), key=before.index)
            self._versions = {key: self._versions[key] for key in sorted(known, key=self._age)}
        if self._versions:
            many = f"runs {len(self._versions)} versions: their union, the newest first"
            if len(self._versions) > 1:
                self._say(many)
            else:  # when there are several again, that is news
                self._said = {said for said in self._said if not said.startswith("runs ")}
            self._channel.steer(self._lacking())
            self._publish(self._name, list(reversed(self._versions.values())))
        if before != list(self._versions):
            log.info("%s: %s", self._name, ", ".join(self._versions) or "no version")

    def _age(self, fingerprint: str) -> Rank:
        """How new a version is, by the newest of the instances that run it."""
        return max(
            rank(e.meta.get(VERSION, "")) for e, of in self._asked.values() if of == fingerprint
        )

    def _lacking(self) -> dict[str, list[str]]:
        """By path: which instances run a version that lacks the method."""
        paths = {key: version.paths for key, version in self._versions.items()}
        everything = set().union(*paths.values())
        lacking: dict[str, list[str]] = {}
        for id_, (_, fingerprint) in self._asked.items():
            for path in everything - paths.get(fingerprint, everything):
                lacking.setdefault(path, []).append(id_)
        return lacking

    def _say(self, message: str) -> None:
        if message not in self._said:
            if len(self._said) >= MOST_SAID:
                self._said.clear()
            self._said.add(message)
            log.warning("%s: %s", self._name, message)


def rank(version: str) -> Rank:
    """
    How new a version is: 1.10 is after 1.9 and 2.0.0-rc.1, 2.0.0 after both; "" is before all.

    "numeric identifiers always have lower precedence than non-numeric" - SemVer 2.0.0, 11
    """
    core, _, early = version.removeprefix("v").partition("+")[0].partition("-")
    return bool(version), _parts(core), not early, _parts(early)


def _parts(text: str) -> tuple[tuple[bool, int, str], ...]:
    return tuple(
        (False, int(part), "") if part.isdecimal() else (True, 0, part) for part in text.split(".")
    )


async def _reflect(endpoint: Endpoint) -> Reflection:
    services = tuple(filter(None, endpoint.meta.get(META, "").split(",")))
    return await reflect(endpoint.address, services)
