"""
One strangled route at work: who is asked, what is learnt of it, and when to turn back.

    request -> key -> bucket -> the new service or the old one -> answer
                                   \\-> the other, as a shadow -> compared
    what the new side did -> evidence -> judge -> abort

Reads the standing at each request, so that a percentage changed elsewhere is in force at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from gateway.exchange import Answer, Exchange
from gateway.invalid import Invalid
from gateway.jsontext import loads
from gateway.rule import Template
from gateway.status import Problem
from gateway.strangler import plan
from gateway.strangler.abort import Abort, enough, judge
from gateway.strangler.book import Book
from gateway.strangler.evidence import Evidence, Total
from gateway.strangler.forwarding import SHADOW
from gateway.strangler.forwarding import request as passed_on
from gateway.strangler.legacy import WHOLE, Legacy, Request
from gateway.strangler.route import Match, Route
from gateway.strangler.sending import Sending
from gateway.strangler.shadow import Outcome, ShadowExchange, Shadows, Watch
from gateway.strangler.split import bucket, moved
from gateway.watched import ClientGone

log = logging.getLogger(__name__)

# "GET, HEAD, OPTIONS, and TRACE methods are defined to be safe", PUT and DELETE idempotent too
#                                                                      - RFC 9110, 9.2
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
SAFE = REPEATABLE - {"PUT", "DELETE"}


class Answering(Protocol):
    """The new side: a route of an rpc."""

    async def served(self, exchange: Exchange, segments: list[str]) -> Answer: ...


class Shift:
    """The route; `evidence` is shared with the other workers, `book` too."""

    def __init__(
        self,
        route: Route,
        place: int,
        legacy: tuple[Legacy, Legacy],
        evidence: Evidence,
        book: Book,
        *,
        served_by: str = "",
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self.route = route
        # (legacy or new, answered or failed) -> requests.
        self.counts: Counter[tuple[str, str]] = Counter()
        self.evidence = evidence
        self.shadows = (
            Shadows(route.shadow, self._compared, clock) if route.shadow is not None else None
        )
        # The new side's routes that may be asked for nobody: by the one that answers.
        self.twins: dict[Any, Answering] = {}
        # Why a match has no shadow although the route asks for one.
        self.unshadowed: dict[str, str] = {}
        self._made_of = (route, place, legacy, served_by)
        self._legacy, self._legacy_shadow = legacy
        self._book = book
        self._served_by = served_by.encode()
        self._monotonic = monotonic
        self._clock = clock
        self._rng = rng
        self._abort = route.abort

    def same(self, *made_of: object) -> bool:
        """Whether it was made of this route, place, systems and header."""
        return self._made_of == made_of

    @property
    def standing(self) -> plan.Standing:
        return self._book.standings[self.route.name]

    async def answer(
        self, exchange: Exchange, segments: list[str], match: Match, new: Answering | None
    ) -> Answer:
        """The answer of the side that the request is on."""
        body = await self._read_ahead(exchange, new)
        to_new = new is not None and self._moved(exchange, segments, match.template, body)
        watch = self._shadow(exchange, segments, new, body, to_new=to_new)
        began = self._monotonic()
        try:
            if to_new and new is not None:
                answer = await new.served(exchange, segments)
            else:
                answer = await self._ask_legacy(exchange, body)
        except (Problem, Invalid) as error:
            outcome = Outcome(error.http if isinstance(error, Problem) else 400)
            self._ended(outcome, watch, began, new=to_new)
            raise
        except (ClientGone, asyncio.CancelledError):
            if watch is not None:
                watch.forgotten()
            raise
        except Exception:
            self._ended(Outcome(500), watch, began, new=to_new)
            raise
        self._ended(Outcome.of(answer), watch, began, new=to_new)
        if self._served_by:
            answer.headers.append((self._served_by, b"new" if to_new else b"legacy"))
        return answer

    # -- which side

    async def _read_ahead(self, exchange: Exchange, new: Answering | None) -> bytes | None:
        """The body, where somebody beside the new side has to see it; None: left where it is."""
        moving = new is not None and 0 < self.standing.percent < 100
        keyed = self.route.key is not None and self.route.key.source == "body"
        shadowed = self.shadows is not None and new in self.twins
        if not (shadowed or (moving and keyed)):
            return None
        body = await exchange.raw_body()
        exchange.unread(body)
        return body

    def _moved(
        self, exchange: Exchange, segments: list[str], template: Template, body: bytes | None
    ) -> bool:
        percent = self.standing.percent
        if percent <= 0 or percent >= 100:
            return percent > 0
        key = self.route.key
        if key is None:
            return moved(bucket("", self.route.salt), percent)
        json = None
        if key.source == "body" and body:
            try:
                json = loads(body)
            except Invalid:
                json = None  # whoever answers will say so
        return moved(bucket(key.of(exchange, template, segments, json), self.route.salt), percent)

    # -- asking

    async def _ask_legacy(self, exchange: Exchange, body: bytes | None) -> Answer:
        if body is None and exchange.method in REPEATABLE:  # asked twice, it is sent twice
            body = await exchange.raw_body()
        compared = self.shadows is not None
        if body is None:
            pieces, arriving = await exchange.begun(WHOLE)
            if arriving is not None:
                return await self._send_on(exchange, Sending(pieces, arriving), plain=compared)
            body = b"".join(pieces)
        request = self._request(exchange, body, plain=compared)
        async with exchange.watched():
            return await self._legacy.ask(request)

    async def _send_on(self, exchange: Exchange, sending: Sending, *, plain: bool) -> Answer:
        """The answer to a body that is sent on while it arrives; it may come before its end."""
        request = self._request(exchange, sending, plain=plain)
        try:
            async with exchange.watched(body_read=sending.read):
                answer = await self._legacy.ask(request)
        except Problem as error:
            if await sending.rest():
                error.headers = (*error.headers, ("connection", "close"))
            raise
        if isinstance(answer.body, bytes) and await sending.rest():
            answer.headers.append((b"connection", b"close"))
        return answer

    def _request(self, exchange: Exchange, body: bytes | Sending, *, plain: bool) -> Request:
        # What HEAD leaves out, our own server leaves out.
        method = "GET" if exchange.method == "HEAD" else exchange.method
        query = f"?{exchange.query}" if exchange.query else ""
        return Request(
            method,
            exchange.path + query,
            passed_on(exchange, plain=plain),
            body,
            repeatable=method in REPEATABLE,
            timeout=exchange.timeout(None),
            traceparent=exchange.header(b"traceparent"),
        )

    def _shadow(
        self,
        exchange: Exchange,
        segments: list[str],
        new: Answering | None,
        body: bytes | None,
        *,
        to_new: bool,
    ) -> Watch | None:
        """Ask the other side too, where that may be done and is wanted."""
        shadows, twin = self.shadows, self.twins.get(new)
        if shadows is None or twin is None:
            return None
        if self._rng.random() * 100 >= shadows.rule.percent:
            return None
        seconds = shadows.rule.timeout
        what = f"{exchange.method} {exchange.path}" + (
            f"?{exchange.query}" if exchange.query else ""
        )
        if to_new:
            request = self._request(exchange, body or b"", plain=True)
            name, value = (text.decode() for text in SHADOW)
            request.headers.append((name, value))

            async def ask_legacy() -> Answer:
                return await self._legacy_shadow.ask(request)

            return shadows.begin(ask_legacy, what, asks_new=False, asked=lambda status: None)
        copy = ShadowExchange(exchange, body or b"", seconds)
        began = self._monotonic()

        async def ask_new() -> Answer:
            try:
                return await twin.served(copy, segments)
            finally:
                copy.close()

        def asked(status: int) -> None:
            self._called(Outcome(status), began)

        return shadows.begin(ask_new, what, asks_new=True, asked=asked)

    # -- what is learnt

    def _ended(self, outcome: Outcome, watch: Watch | None, began: float, *, new: bool) -> None:
        side = "new" if new else "legacy"
        self.counts[side, "failed" if outcome.failed else "answered"] += 1
        if watch is not None:
            watch.answered(outcome)
        if new:
            self._called(outcome, began)

    def _called(self, outcome: Outcome, began: float) -> None:
        """The new side was called, as a shadow or not."""
        now = self._monotonic()
        limit = self._abort.slow if self._abort is not None else None
        slow = limit is not None and now - began > limit
        self.evidence.called(now, self.standing.revision, failed=outcome.failed, slow=slow)
        if outcome.failed or slow:
            self.judge()

    def _compared(self, different: bool) -> None:
        epoch = self.standing.revision
        self.evidence.compared(self._monotonic(), epoch, different=different)
        if different:
            self.judge()

    def total(self) -> Total:
        """What the window holds of the present standing."""
        return self.evidence.total(self._monotonic(), self.standing.revision)

    def judge(self) -> None:
        """Turn back, if what was seen says so."""
        rule, standing = self._abort, self.standing
        if rule is None or standing.mode is plan.Mode.ABORTED:
            return
        reason = judge(rule, self.total())
        if reason:
            aborted = plan.abort(self.route.plan, standing, self._clock(), reason, back=rule.back)
            self._book.change(self.route.name, aborted)
            log.error(
                "strangler %s: aborted, %g %% -> %g %%: %s",
                self.route.name,
                standing.percent,
                aborted.percent,
                reason,
            )

    def advance(self) -> None:
        """Go on with the plan, if it is time to."""
        rule: Abort | None = self._abort
        standing = self.standing
        # Where nobody asks the new side there is nothing to wait for.
        unasked = standing.percent == 0 and self.shadows is None
        seen = unasked or enough(rule, self.total())
        after = plan.follow(self.route.plan, standing, self._clock(), enough=seen)
        if after is not standing:
            self._book.change(self.route.name, after)
            log.warning(
                "strangler %s: %g %% -> %g %%", self.route.name, standing.percent, after.percent
            )

    async def close(self) -> None:
        if self.shadows is not None:
            await self.shadows.close()


class LegacyRoute:
    """A path that only the old service has, or that no instance has shown us yet."""

    streams = False

    def __init__(self, shift: Shift, match: Match) -> None:
        self.http_method = match.http_method
        self.template = match.template
        self.name = f"legacy {shift.route.name}"
        self.shift = shift
        self._match = match

    async def answer(self, exchange: Exchange, segments: list[str]) -> Answer:
        return await self.shift.answer(exchange, segments, self._match, None)
