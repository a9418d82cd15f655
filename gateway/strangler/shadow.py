"""
Shadows: the side that does not answer is asked too, and what it says is laid beside the answer.

    begin(ask) -> Watch        asked in a task of its own, or dropped when too many are on their way
    watch.answered(outcome)    what the client was told: compared once both are there
    watch.forgotten()          the client left, or its answer cannot be compared

A shadow is never waited for, has its own time, and ends with its gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gateway import headers
from gateway.exchange import Answer, Exchange
from gateway.invalid import Invalid
from gateway.jsontext import loads
from gateway.status import Problem
from gateway.strangler.comparing import Difference, differences
from gateway.strangler.route import Shadow
from mesh.policy.criticality import KEY as CRITICALITY
from mesh.policy.criticality import Criticality

log = logging.getLogger(__name__)

# Larger answers are not compared.
COMPARED_BYTES = 1024 * 1024
MARK = "x-mesh-shadow"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one side said: a status, and the body where it can be compared."""

    status: int
    body: bytes | None = None
    media_type: str = ""

    @classmethod
    def of(cls, answer: Answer) -> Outcome:
        kind = next((value for name, value in answer.headers if name == b"content-type"), b"")
        body = answer.body if isinstance(answer.body, bytes) else None
        if body is not None and len(body) > COMPARED_BYTES:
            body = None
        return cls(answer.status, body, kind.decode("latin-1").partition(";")[0].strip().lower())

    @property
    def failed(self) -> bool:
        """Whether the side itself failed; what it refuses, it refuses in good health."""
        return self.status >= 500


Ask = Callable[[], Awaitable[Answer]]


def compare(legacy: Outcome, new: Outcome, rule: Shadow) -> list[Difference] | None:
    """Where two outcomes differ; None when that cannot be said."""
    if legacy.status != new.status:
        return [Difference("status", str(legacy.status), str(new.status))]
    if legacy.status >= 400:
        return []  # that both refuse is enough: their words are their own
    if legacy.body is None or new.body is None:
        return None
    if legacy.body == new.body:
        return []
    try:
        pair = loads(legacy.body), loads(new.body)
    except Invalid:
        kinds = (
            f"{legacy.media_type}, {len(legacy.body)} bytes",
            (f"{new.media_type}, {len(new.body)} bytes"),
        )
        return [Difference("body", *kinds)]
    return differences(*pair, rule.ignore, empty_is_absent=rule.empty_is_absent)


class Watch:
    """One shadow on its way; told how the answer that it is compared with came out."""

    __slots__ = ("_primary",)

    def __init__(self) -> None:
        self._primary: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

    def answered(self, outcome: Outcome) -> None:
        """The client was told this."""
        if not self._primary.done():
            self._primary.set_result(outcome)

    def forgotten(self) -> None:
        """There is nothing to compare with."""
        if not self._primary.done():
            self._primary.set_result(None)

    async def primary(self) -> Outcome | None:
        """What the client was told, once it was; None when that cannot be compared."""
        return await self._primary


class Shadows:
    """The shadows of one route in this process: bounded, counted, the newest differences kept."""

    def __init__(
        self,
        rule: Shadow,
        compared: Callable[[bool], None],
        clock: Callable[[], float],
    ) -> None:
        self.rule = rule
        # sent, dropped, failed, timed_out, same, different, uncompared
        self.counts: Counter[str] = Counter()
        self.samples: deque[dict[str, Any]] = deque(maxlen=rule.samples)
        self._compared = compared
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, ask: Ask, what: str, *, asks_new: bool, asked: Callable[[int], None]
    ) -> Watch | None:
        """Ask the other side; None when as many shadows as may be are on their way."""
        if len(self._tasks) >= self.rule.limit:
            self.counts["dropped"] += 1
            return None
        self.counts["sent"] += 1
        watch = Watch()
        task = asyncio.create_task(self._follow(ask, watch, what, asks_new, asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return watch

    async def _follow(
        self, ask: Ask, watch: Watch, what: str, asks_new: bool, asked: Callable[[int], None]
    ) -> None:
        try:
            outcome = await self._outcome(ask)
        except Exception:  # nobody waits for it: what goes wrong here must be seen here
            log.exception("%s: a shadow failed", what)
            self.counts["failed"] += 1
            return
        asked(outcome.status)
        primary = await watch.primary()
        # Of a side that failed there is no answer that could differ: it counts as a failure.
        if primary is None or primary.failed or outcome.failed:
            self.counts["uncompared"] += 1
            return
        legacy, new = (primary, outcome) if asks_new else (outcome, primary)
        found = compare(legacy, new, self.rule)
        if found is None:
            self.counts["uncompared"] += 1
            return
        self.counts["different" if found else "same"] += 1
        self._compared(bool(found))
        if found:
            sample = {"at": self._clock(), "request": what, "differences": list(map(asdict, found))}
            self.samples.append(sample)

    async def _outcome(self, ask: Ask) -> Outcome:
        try:
            async with asyncio.timeout(self.rule.timeout):
                answer = await ask()
            outcome = Outcome.of(answer)
            close = getattr(answer.body, "aclose", None)
            if close is not None:
                await close()
        except TimeoutError:
            self.counts["timed_out"] += 1
            return Outcome(504)
        except Problem as error:
            outcome = Outcome(error.http)
        except Invalid:
            outcome = Outcome(400)
        if outcome.failed:
            self.counts["failed"] += 1
        return outcome

    async def close(self) -> None:
        """End every shadow."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ShadowExchange(Exchange):
    """A copy of a request for the side that does not answer; nobody leaves who is not there."""

    __slots__ = ("_body",)

    def __init__(self, exchange: Exchange, body: bytes, seconds: float) -> None:
        limits = replace(exchange.limits, timeout=seconds, leave_seconds=max(1.0, 2 * seconds))
        super().__init__(exchange.scope, self._once, limits, exchange.stopping)
        self.principal, self.saying = exchange.principal, exchange.saying
        self.request_id, self.headers = exchange.request_id, exchange.headers
        self._body: bytes | None = body

    async def _once(self) -> MutableMapping[str, Any]:
        body, self._body = self._body, None
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body, "more_body": False}

    def metadata(self) -> headers.Metadata:
        """What the service is told: that it is a shadow, and the first to be shed."""
        told = [pair for pair in super().metadata() if pair[0] != "idempotency-key"]
        return [*told, (MARK, "true"), (CRITICALITY, Criticality.SHEDDABLE.name)]
