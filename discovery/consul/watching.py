"""
What a watch does with each answer: the pure core of a blocking query's loop.

    query -> answered -> Publish?  -> wait 0, or what the bucket says -> query
          -> failed   -> Publish with stale_since, once -> wait a jittered backoff -> query

The rules that a changer must keep, each in SEMANTICS or learnt from a client that lacks it:

* An answer is not a change: only new content is published.
* An index that goes backwards starts again from 0 (`schema.index_after`).
* An agent that is down, answers 5xx or garbage says nothing: the last good set stays, published
  once more with `stale_since`.
* An answer too far behind the leader is asked again, of the leader.  When that says nothing, as in
  a minority that is cut off, what is old is shown as old: better than nobody, unless we know later.
* An empty answer empties the pool, the last instance leaving is seen, unless it comes soon after an
  outage or with an index that went backwards.  Then the agent may have restarted empty, and the
  instances are still registering again: for `settle` seconds what was known before stays beside
  what is answered.  That time is not cut short by an answer that has everybody: an agent of a
  cluster first answers with what its node had before, and only then takes it out of the catalog.
  After it the answer is the truth, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from discovery.consul import schema
from discovery.pace import Backoff, Bucket

T = TypeVar("T")

UNCHANGED_COST = 1.0
CHANGED_COST = 0.02


@dataclass(frozen=True, slots=True)
class Query:
    """The next request: `wait` seconds of blocking (0: none), and from any server if `stale`."""

    index: int
    wait: float
    stale: bool


@dataclass(frozen=True, slots=True)
class News(Generic[T]):
    """What a watch's consumer is to see now."""

    value: T
    index: int
    stale_since: float | None


class Watching(Generic[T]):
    """
    The memory of one watch, of endpoints or of service names.

    `decode` turns a body into a value or raises Malformed, `keep(old, new)` is `new` and what was
    only in `old`.  Times are seconds of one monotonic clock, `today` is wall-clock time.
    """

    def __init__(
        self,
        empty: T,
        decode: Callable[[bytes], T],
        keep: Callable[[T, T], T],
        *,
        wait: float,
        max_stale: float,
        settle: float,
        stale: bool,
        now: float,
    ) -> None:
        self.delay = 0.0
        self._decode = decode
        self._keep = keep
        self._wait = wait
        self._max_stale = max_stale
        self._settle = settle
        self._stale = stale
        self._ask_leader = False
        self._old: tuple[T, int] | None = None
        self._value = empty
        self._shown: News[T] | None = None
        self._index = 0
        self._last_index = 0
        self._stale_since: float | None = None
        self._failing = False
        self._known: T | None = None
        self._settled_at = 0.0
        self._backoff = Backoff()
        self._bucket = Bucket(now=now)

    def query(self, now: float) -> Query:
        wait = self._wait
        if self._known is not None:
            wait = min(wait, max(0.01, self._settled_at - now))
        return Query(
            self._index, wait if self._index else 0.0, self._stale and not self._ask_leader
        )

    def answered(
        self, headers: Mapping[str, str], body: bytes, now: float, today: float
    ) -> News[T] | None:
        """The agent answered 200; raises Malformed, which the caller reports as failed."""
        sent, query = self._index, self.query(now)
        value = self._decode(body)
        index = schema.index_after(sent, headers.get("X-Consul-Index"))
        if query.stale and schema.seconds_behind(headers) > self._max_stale:
            # Too old to be believed: the same question again, to the leader.
            self._old = (value, int(headers["X-Consul-Index"]))
            self._ask_leader = True
            self._index = 0
            self.delay = self._bucket.take(UNCHANGED_COST, now)
            return None
        self._ask_leader = False
        self._old = None
        self._backoff.succeeded()
        answered = int(headers["X-Consul-Index"])
        restarted = answered < self._last_index
        self._last_index = answered
        self._index = index
        if self._shown is not None and (restarted or self._failing):
            self._settle_from(now)
        self._failing = False
        changed = self._believe(value, now, today)
        self.delay = self._bucket.take(CHANGED_COST if changed else UNCHANGED_COST, now)
        return self._news()

    def failed(self, now: float, today: float, rng: Random) -> News[T] | None:
        """No answer, or none that can be believed."""
        if self._old is not None and self._old[1] >= self._last_index:
            value, self._last_index = self._old
            self._value = value if self._known is None else self._keep(self._known, value)
        self._old = None
        self._index = 0
        self._ask_leader = False
        self._failing = True
        if self._stale_since is None:
            self._stale_since = today
        self.delay = self._backoff.failed(rng)
        return self._news()

    def _settle_from(self, now: float) -> None:
        if self._known is None:
            self._known = self._value
        # Every failure begins the time anew: only a registry that answers can settle.
        self._settled_at = now + self._settle

    def _believe(self, value: T, now: float, today: float) -> bool:
        if self._known is not None and now >= self._settled_at:
            self._known = None
        both = value if self._known is None else self._keep(self._known, value)
        if both == value:
            self._stale_since = None
        elif self._stale_since is None:
            self._stale_since = today
        changed = both != self._value
        self._value = both
        return changed

    def _news(self) -> News[T] | None:
        news = News(self._value, self._last_index, self._stale_since)
        shown = self._shown
        if (
            shown is not None
            and shown.value == news.value
            and shown.stale_since == news.stale_since
        ):
            return None
        self._shown = news
        return news
