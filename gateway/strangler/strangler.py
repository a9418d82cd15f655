"""
All strangled routes of a gateway: read from a file, attached to the catalog, moved by their plans.

    GATEWAY_STRANGLER ----> configuration --> shifts --attach--> catalog
    GATEWAY_STRANGLER_STATE <--> book            ^ judge, advance: every TICK_SECONDS

A file that makes no sense later is refused whole: the last good one stays, and the log says once
which field of it and why.  Attaching happens at every change of the catalog: a route of the file
whose path some service has decides over it, the others are paths of the old service alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from gateway.catalog import Catalog
from gateway.rest import Served
from gateway.router import Ambiguous
from gateway.strangler import plan
from gateway.strangler.book import Book
from gateway.strangler.configuration import MOST_ROUTES, read
from gateway.strangler.evidence import Evidence, size, tag_of
from gateway.strangler.legacy import Legacy
from gateway.strangler.route import Configuration, Match, Route
from gateway.strangler.shift import LegacyRoute, Shift
from gateway.together import Together
from gateway.upstream import Upstream
from mesh.call import Idempotency
from mesh.errors import PolicyError

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
# Every so many ticks the file is looked at.
FILE_TICKS = 4
# The window of a route that never turns back, seconds: for the report alone.
WINDOW_SECONDS = 60.0

Opening = Callable[[str], Awaitable[Upstream]]


class Strangler:
    """The routes; entered by the gateway that serves them."""

    def __init__(
        self,
        source: Path | Configuration,
        state: Path | None = None,
        together: Together | None = None,
        *,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self._path = source if isinstance(source, Path) else None
        self._read = source
        if isinstance(source, Path):
            source = self._read = read(source)
        self._together = together or Together()
        memory = self._together.memory("evidence", size(self._together.workers, MOST_ROUTES))
        self._memory = memory.view.cast("q")
        self.book = Book(state)
        self.book.open()
        self.shifts: dict[str, Shift] = {}
        # What is wrong with the newest file; "" when it is in force.
        self.refused = ""
        self._clock = clock
        self._rng = rng or Random()
        self._systems: dict[str, tuple[Legacy, Legacy]] = {}
        self._retired: list[Legacy] = []
        self._retiring: set[asyncio.Future[None]] = set()
        self._attach: Callable[[], None] = lambda: None
        self._open: Opening | None = None
        # By service: the channel that shadows go through, with breakers and budgets of its own.
        self._channels: dict[str, Upstream] = {}
        self._wanted: set[str] = set()
        self._use(source)

    # -- the configuration in force

    def _use(self, configuration: Configuration) -> None:
        self._use_systems(configuration)
        before, self.shifts = self.shifts, {}
        for place, route in enumerate(configuration.routes):
            old = before.get(route.name)
            if old is not None and old.same(
                route, place, self._systems[route.legacy], configuration.served_by
            ):
                self.shifts[route.name] = before.pop(route.name)
                continue
            self.shifts[route.name] = self._shift(route, place, configuration)
            if old is not None:
                self.shifts[route.name].counts.update(old.counts)
            self.book.standings.setdefault(route.name, plan.begin(route.plan, self._clock()))
        for shift in before.values():
            self._later(shift.close())

    def _shift(self, route: Route, place: int, configuration: Configuration) -> Shift:
        together = self._together
        evidence = Evidence(
            self._memory,
            worker=together.worker,
            workers=together.workers,
            place=place,
            routes=MOST_ROUTES,
            tag=tag_of(repr(route)),
            seconds=route.abort.window if route.abort is not None else WINDOW_SECONDS,
        )
        return Shift(
            route,
            place,
            self._systems[route.legacy],
            evidence,
            self.book,
            served_by=configuration.served_by,
            monotonic=time.monotonic,
            clock=self._clock,
            rng=self._rng,
        )

    def _use_systems(self, configuration: Configuration) -> None:
        before, self._systems = self._systems, {}
        for name, system in configuration.systems.items():
            old = before.get(name)
            if old is not None and old[0].system == system:
                self._systems[name] = before.pop(name)
            else:
                self._systems[name] = (Legacy(name, system), Legacy(name, system, shadow=True))
        for pair in before.values():
            for legacy in pair:
                self._retired.append(legacy)
                self._later(legacy.retire())

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    # -- what the gateway serves

    def attach(self, made: Catalog) -> None:
        """Put every route between the catalog's entries and who asks for them."""
        served: dict[Any, Served] = {}
        for entry in made.router.entries:
            if isinstance(entry, Served):
                entry.shift = None
                match = Match(http_method=entry.http_method, template=entry.template)
                served[match.shape] = entry
        for shift in self.shifts.values():
            shift.twins, shift.unshadowed = {}, {}
            for match in shift.route.match:
                new = served.get(match.shape)
                if new is not None:
                    self._decide(shift, match, new)
                    continue
                try:
                    made.router.add(LegacyRoute(shift, match))
                except Ambiguous as error:
                    log.warning("strangler %s: not served: %s", shift.route.name, error)
        made.legacy = bool(self.shifts)

    def _decide(self, shift: Shift, match: Match, entry: Served) -> None:
        rpc = entry.route.rpc
        if rpc.client_streaming and rpc.server_streaming:
            shift.unshadowed[str(match)] = f"{rpc.name} talks both ways: never strangled"
            return

        async def answer(exchange: Any, segments: list[str], new: Served) -> Any:
            return await shift.answer(exchange, segments, match, new)

        entry.shift = answer
        if shift.shadows is None:
            return
        if rpc.method.idempotency is not Idempotency.NO_SIDE_EFFECTS:
            shift.unshadowed[str(match)] = f"{rpc.name} is not NO_SIDE_EFFECTS"
        elif entry.streams:
            shift.unshadowed[str(match)] = f"{rpc.name} is a stream"
        elif (channel := self._channels.get(entry.route.target)) is not None:
            channel.learn([rpc])
            shift.twins[entry] = Served(entry.route, channel)
        else:
            self._wanted.add(entry.route.target)

    # -- what operators do

    def now(self) -> float:
        """Seconds since 1970, as standings count them."""
        return self._clock()

    async def move(self, name: str, standing: plan.Standing) -> None:
        """Put a route where an operator wants it, and write that down."""
        before = self.book.standings[name]
        self.book.change(name, standing)
        log.warning("strangler %s: %g %% -> %g %%, by hand", name, before.percent, standing.percent)
        await self.book.refresh()

    def asked_of(self, system: str) -> int:
        """How many answers of an old service are awaited or being passed on."""
        return sum(legacy.in_flight for legacy in self._systems[system])

    # -- while it is served

    @asynccontextmanager
    async def running(self, attach: Callable[[], None], open_: Opening) -> AsyncIterator[None]:
        """Follow the files and the plans inside the block; `open_` opens a channel for shadows."""
        self._attach, self._open = attach, open_
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            for shift in self.shifts.values():
                await shift.close()
            await self.book.refresh()  # an abort since the last tick holds after a restart too
            for work in list(self._retiring):
                work.cancel()
            await asyncio.gather(*self._retiring, return_exceptions=True)
            for pair in (*self._systems.values(), self._retired):
                for legacy in pair:
                    await legacy.close()

    async def _run(self) -> None:
        ticks = 0
        while True:
            try:
                await self._tick(look=ticks % FILE_TICKS == 0)
            except Exception:  # moving traffic must outlive what it does not understand
                log.exception("strangler: a tick failed")
            ticks += 1
            await asyncio.sleep(TICK_SECONDS)

    async def _tick(self, *, look: bool) -> None:
        if look and self._path is not None:
            await self._look(self._path)
        await self._open_wanted()
        for shift in self.shifts.values():
            shift.judge()
            shift.advance()
        await self.book.refresh()

    async def _look(self, path: Path) -> None:
        try:
            found = await asyncio.to_thread(read, path)
            if found != self._read:
                self._use(found)
                self._read = found
                self._attach()
                log.warning("strangler: %s is in force", path)
            self.refused = ""
        except PolicyError as error:
            if str(error) != self.refused:
                self.refused = str(error)
                log.warning("strangler: refused, the last good one stays: %s", error)

    async def _open_wanted(self) -> None:
        wanted = self._wanted - self._channels.keys()
        if not wanted or self._open is None:
            return
        for service in wanted:
            self._channels[service] = await self._open(service)
        self._attach()
