"""
Running checks: probes at their interval, ttls that expire, and the reaper of what stays critical.

A probed check is one task that ends with it, a ttl one timer.  Results go to the catalog through
`report`, the same door that PUT /v1/agent/check/pass uses.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from discovery.agent.definition import CheckDefinition
from discovery.agent.probes import Probe, probe

REAP_SECONDS = 30.0
# A first look comes soon, but not all first looks at once.
FIRST_LOOK_SECONDS = 0.25

Report = Callable[[str, str, str], None]
Expire = Callable[[str], None]


@dataclass(slots=True)
class Running:
    """One check that lives: what runs it, when a ttl is over and since when it is critical."""

    definition: CheckDefinition
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    until: float = 0.0
    successes: int = 0
    failures: int = 0
    critical_since: float | None = None


class Checks:
    """All running checks by id; `report(id, status, output)` says what was found."""

    def __init__(self, report: Report, expire: Expire) -> None:
        self._report = report
        self._expired = expire
        self._running: dict[str, Running] = {}

    def start(self, definition: CheckDefinition, status: str) -> None:
        """Run a check from now on, in place of one with the same id."""
        self.stop(definition.id)
        running = Running(definition)
        if status == "critical":
            running.critical_since = time.monotonic()
        self._running[definition.id] = running
        if definition.kind == "ttl":
            self._prolong(running)
        else:
            probing = self._probe(running)
            running.task = asyncio.create_task(probing, name=f"check {definition.id}")

    def stop(self, check_id: str) -> None:
        running = self._running.pop(check_id, None)
        for life in (running.task, running.timer) if running is not None else ():
            if life is not None:
                life.cancel()

    async def close(self) -> None:
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for check_id in list(self._running):
            self.stop(check_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    def definition(self, check_id: str) -> CheckDefinition | None:
        running = self._running.get(check_id)
        return None if running is None else running.definition

    def beat(self, check_id: str) -> bool:
        """A ttl check was heard of; False if there is none with this id."""
        running = self._running.get(check_id)
        if running is None or running.definition.kind != "ttl":
            return False
        self._prolong(running)
        return True

    def became(self, check_id: str, status: str) -> None:
        """Remember since when a check is critical, for the reaper."""
        running = self._running.get(check_id)
        if running is None:
            return
        if status != "critical":
            running.critical_since = None
        elif running.critical_since is None:
            running.critical_since = time.monotonic()

    def overdue(self, now: float) -> list[CheckDefinition]:
        """The checks whose service is to be deregistered."""
        return [
            running.definition
            for running in self._running.values()
            if running.definition.deregister_after
            and running.critical_since is not None
            and now - running.critical_since > running.definition.deregister_after
        ]

    def _prolong(self, running: Running) -> None:
        """A heartbeat only moves the end; the timer finds out when it comes."""
        loop = asyncio.get_running_loop()
        running.until = loop.time() + running.definition.ttl
        if running.timer is None:
            running.timer = loop.call_at(running.until, self._expire, running)

    def _expire(self, running: Running) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < running.until:
            running.timer = loop.call_at(running.until, self._expire, running)
            return
        running.timer = None
        self._expired(running.definition.id)

    async def _probe(self, running: Running) -> None:
        definition = running.definition
        looking: Probe = probe(definition)
        try:
            await asyncio.sleep(random.uniform(0, min(FIRST_LOOK_SECONDS, definition.interval)))
            while True:
                status, output = await looking.look()
                self._found(running, status, output)
                await asyncio.sleep(definition.interval)
        finally:
            await looking.close()

    def _found(self, running: Running, status: str, output: str) -> None:
        """SuccessBeforePassing and FailuresBeforeCritical: so many in a row to turn."""
        definition = running.definition
        if status == "critical":
            running.failures, running.successes = running.failures + 1, 0
            if running.failures <= definition.critical_after:
                return
        else:
            running.successes, running.failures = running.successes + 1, 0
            if running.successes <= definition.passing_after:
                return
        self._report(definition.id, status, output)
