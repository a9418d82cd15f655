"""
Consul as the registry: watches by blocking queries of our own, registrations by py-consul.

The loop here only carries: what an answer means is schema's, what to do next is watching's, when
to register again is lease's.  One session serves all; every watch is a generator that asks when its
consumer does, so that a slow consumer gets the newest truth and no queue exists.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from discovery.consul import schema
from discovery.consul.client import Answer, Client, Unreachable
from discovery.consul.desk import ConsulDesk
from discovery.consul.keys import watch_key
from discovery.consul.settings import Settings
from discovery.consul.watching import News, Query, Watching
from discovery.lease import keep
from discovery.model import Endpoint, Instance, Snapshot
from discovery.registry import Registration, Tags

LOG = logging.getLogger(__name__)
T = TypeVar("T")


class ConsulRegistry:
    """May be entered more than once; the last one out closes the session."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client: Client | None = None
        self._entered = 0
        self._rng = Random()
        self._asked_of_token = False

    async def __aenter__(self) -> Self:
        if self._client is None:
            self._client = Client(self.settings)
        self._entered += 1
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered -= 1
        if self._entered == 0 and self._client is not None:
            client, self._client = self._client, None
            await client.close()

    @property
    def client(self) -> Client:
        """The open session; `client.commands` is py-consul's whole API (KV, intentions ...)."""
        if self._client is None:
            raise RuntimeError("the registry is used outside its `async with`")
        return self._client

    def register(self, instance: Instance) -> AbstractAsyncContextManager[Registration]:
        return keep(instance, ConsulDesk(self.client))

    async def watch(self, service: str, *, tag: str | None = None) -> AsyncIterator[Snapshot]:
        path = "/v1/health/service/" + quote(service, safe="")
        params = [("tag", tag)] if tag is not None else []
        empty: tuple[Endpoint, ...] = ()
        async for news in self._watch(path, params, empty, schema.Entries(), _keep_endpoints):
            yield Snapshot(service, news.value, news.index, news.stale_since)

    async def watch_services(self) -> AsyncIterator[Tags]:
        empty: Tags = {}
        seen: Tags | None = None
        async for news in self._watch(
            "/v1/catalog/services", [], empty, schema.services, _keep_services
        ):
            if news.value != seen:
                seen = news.value
                yield news.value

    def watch_key(self, key: str) -> AsyncIterator[bytes | None]:
        return watch_key(self.client, key)

    async def _watch(
        self,
        path: str,
        params: Sequence[tuple[str, str]],
        empty: T,
        decode: Callable[[bytes], T],
        keep_known: Callable[[T, T], T],
    ) -> AsyncIterator[News[T]]:
        settings = self.settings
        watching = Watching(
            empty,
            decode,
            keep_known,
            wait=settings.wait,
            max_stale=settings.max_stale,
            settle=settings.settle,
            stale=settings.stale,
            now=time.monotonic(),
        )
        told = ""
        while True:
            try:
                answer = await self._ask(path, params, watching.query(time.monotonic()))
                news = watching.answered(answer.headers, answer.body, time.monotonic(), time.time())
            except (Unreachable, schema.Malformed) as error:
                news = watching.failed(time.monotonic(), time.time(), self._rng)
                # Once for each kind of trouble, not once a try.
                if told != str(error):
                    told = str(error)
                    LOG.warning("%s%s: %s", settings.shown, path, told)
            else:
                if told:
                    LOG.info("%s%s: answers again", settings.shown, path)
                    told = ""
            if news is not None:
                yield news
                if not news.value and news.stale_since is None:
                    await self._warn_of_token()
            if watching.delay:
                await asyncio.sleep(watching.delay)

    async def _ask(self, path: str, params: Sequence[tuple[str, str]], query: Query) -> Answer:
        asked = list(params)
        seconds = self.settings.slack
        if query.stale:
            asked.append(("stale", ""))
        if query.index:
            asked += [("index", str(query.index)), ("wait", schema.duration(query.wait))]
            # The agent may answer later than asked by a sixteenth of the wait.
            seconds += query.wait * 17 / 16
        once = bool(query.index)
        answer = await self.client.request("GET", path, asked, seconds=seconds, once=once)
        if answer.status != 200:
            raise Unreachable(f"status {answer.status}: {answer.text}")
        return answer

    async def _warn_of_token(self) -> None:
        """Where ACLs deny by default, a missing token reads as "nobody there": say so, once."""
        if self._asked_of_token or self.settings.current_token():
            return
        self._asked_of_token = True
        try:
            myself = await self.client.request("GET", "/v1/agent/self", seconds=1.0)
        except Unreachable:
            return
        if myself.status == 403:
            LOG.warning(
                "%s requires an ACL token and none is set: services may exist that an"
                " anonymous query does not show (CONSUL_HTTP_TOKEN)",
                self.settings.shown,
            )


def _keep_endpoints(old: tuple[Endpoint, ...], new: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """
    Who is there by the answer, and who was before.

    Once half of them are back, the others are last in line: they may have left during the outage.
    """
    both = {endpoint.id: endpoint for endpoint in new}
    missing = [endpoint for endpoint in old if endpoint.id not in both]
    if len(new) >= len(missing):
        missing = [replace(endpoint, weight=0) for endpoint in missing]
    both |= {endpoint.id: endpoint for endpoint in missing}
    return tuple(both[name] for name in sorted(both))


def _keep_services(old: Tags, new: Mapping[str, tuple[str, ...]]) -> Tags:
    both = {**old, **new}
    return {name: both[name] for name in sorted(both)}
