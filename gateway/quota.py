"""
A bucket of tokens for everyone who asks, in memory that all workers of a gateway share.

    take("key:acme", now)     one token, or RateLimited with the seconds until there is one

One number a bucket: when it will be full again (GCRA, as in ATM's and nginx's leaky buckets).

    full at      now <= full: a burst may come        full - now = what is missing of it

`SETS` x `WAYS` buckets of 16 bytes are all there ever are.  Where a set is taken, the bucket that
is the fullest is forgotten: one that is full anyway says nothing, and is as good as new.  Clients
are told apart by a keyed digest, so that nobody can choose whose bucket they share.  The clock is
the machine's monotonic one, which its processes have in common.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from secrets import token_bytes
from time import monotonic

from gateway.rates import Rate, Rates
from gateway.rates_file import RatesFile
from gateway.together import Together
from mesh.errors import RateLimited

SETS = 8192
WAYS = 8
# Two numbers a bucket, and the digest's key before them all.
WORDS = 2
KEY_BYTES = 16
SIZE = KEY_BYTES + SETS * WAYS * WORDS * 8
NANOSECONDS = 1e9
# Of an IPv6 address: a customer is given at least a /64, and may speak from all of it.
NETWORK_BITS = 64


class Quota:
    """The buckets of everyone, by the rates that they have."""

    def __init__(
        self,
        rates: Rates,
        together: Together | None = None,
        clock: Callable[[], float] = monotonic,
        *,
        file: RatesFile | None = None,
    ) -> None:
        """By `rates`, until `file` says otherwise."""
        self.rates = rates
        self._file = file
        self._clock = clock
        self._memory = (together or Together()).memory("quota", SIZE)
        with self._memory.lock(0, KEY_BYTES):  # whoever is first chooses
            head = self._memory.view[:KEY_BYTES]
            if not any(head):
                head[:] = token_bytes(KEY_BYTES)
            self._key = bytes(head)
        self._words = self._memory.view[KEY_BYTES:].cast("Q")

    def take(self, who: str) -> None:
        """Take a token of "key:acme", "address:10.0.0.1", or raise RateLimited."""
        rate = self.rates.of(who)
        if rate is None:
            return
        now = int(self._clock() * NANOSECONDS)
        digest = int.from_bytes(blake2b(who.encode(), digest_size=8, key=self._key).digest()) or 1
        start = digest % SETS * WAYS * WORDS
        with self._memory.lock(KEY_BYTES + start * 8, WAYS * WORDS * 8):
            wait = self._draw(start, digest, rate, now)
        if wait > 0:
            raise RateLimited(_told(rate), retry_after=wait / NANOSECONDS)

    @property
    def refused(self) -> str:
        """Why the rates in force are not those of the file; "" when they are."""
        return self._file.refused if self._file is not None else ""

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Inside the block the rates are those of the file, whenever it changes."""
        if self._file is None:
            yield
            return
        task = asyncio.create_task(self._file.follow(self._use))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _use(self, rates: Rates) -> None:
        self.rates = rates

    def _draw(self, start: int, digest: int, rate: Rate, now: int) -> int:
        """Take from the bucket in the set at `start`; the nanoseconds to wait, 0 when taken."""
        words = self._words
        places = range(start, start + WAYS * WORDS, WORDS)
        place = next((at for at in places if words[at] == digest), -1)
        if place < 0:
            place = min(places, key=lambda at: words[at + 1])
            words[place], words[place + 1] = digest, 0
        each = NANOSECONDS / rate.per_second
        empty = int(now + each * rate.burst)
        if words[place + 1] > empty + 1:  # drawn by a slower rate: no bucket is emptier than empty
            words[place + 1] = empty
        full = max(words[place + 1], now) + each
        wait = full - now - each * rate.burst
        if wait > 1:  # a token that is there but for a rounding is there
            return int(wait)
        words[place + 1] = int(full)
        return 0


def address(client: str) -> str:
    """Under which name a client's address has its bucket: IPv6 by network."""
    try:
        found = ip_address(client.partition("%")[0])
    except ValueError:
        return f"address:{client}"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return f"address:{found.ipv4_mapped}"
        network = IPv6Address(int(found) >> NETWORK_BITS << NETWORK_BITS)
        return f"address:{network}/{NETWORK_BITS}"
    return f"address:{found}"


def _told(rate: Rate) -> str:
    for unit, seconds in (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400)):
        many = rate.per_second * seconds
        if many >= 0.999:
            return f"{many:.6g} a {unit} are allowed"
    return f"{rate.per_second * 86400:.3g} a day are allowed"
