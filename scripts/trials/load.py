"""
A steady load: so many calls a second come what may, and what became of each.

Calls are started by the clock, not by the answers, as users do: a server that hangs does not make
them ask less.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self

import grpc

from mesh.client.status import RpcFailed

Ask = Callable[[], Awaitable[str]]
# Calls that may be under way at once; a load that reaches it has found a call that never ends.
MOST = 5000


@dataclass(frozen=True, slots=True)
class Answer:
    """One call: when it began, how long it took, how it ended, and who answered.

    `code` is the status, or the reason where the mesh itself refused.
    """

    began: float
    seconds: float
    code: str
    server: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What many answers come to; latencies are seconds, over all calls."""

    sent: int
    failed: int
    codes: str
    median: float
    tail: float
    slowest: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Figures:
        times = sorted(answer.seconds for answer in answers) or [0.0]
        bad = Counter(answer.code for answer in answers if answer.code != "OK")
        codes = ", ".join(f"{count} {code}" for code, count in bad.most_common())
        count = len(times)
        return cls(
            sent=len(answers),
            failed=bad.total(),
            codes=codes,
            median=times[count // 2],
            tail=times[min(count - 1, count * 99 // 100)],
            slowest=times[-1],
        )


class Load:
    """Calls `ask` `rate` times a second, from entering to leaving."""

    def __init__(self, ask: Ask, rate: float) -> None:
        self.answers: list[Answer] = []
        self.sent = 0
        self._ask = ask
        self._rate = rate
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def figures(self) -> Figures:
        return Figures.of(self.answers)

    def between(self, since: float, until: float) -> list[Answer]:
        """The calls that began in that time."""
        return [answer for answer in self.answers if since <= answer.began < until]

    def answered_by(self, server: str, since: float) -> Answer | None:
        """The first good answer of a server to a call that began after `since`."""
        return next((a for a in self.answers if a.began >= since and a.server == server), None)

    async def __aenter__(self) -> Self:
        self._sending = asyncio.ensure_future(self._send())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send no more, and wait for what is under way."""
        self._sending.cancel()
        await asyncio.gather(self._sending, *self._calls, return_exceptions=True)

    async def _send(self) -> None:
        due = monotonic()
        while True:
            # What a busy host made us miss is not made up for: a burst would be another load.
            due = max(due + 1 / self._rate, monotonic())
            await asyncio.sleep(due - monotonic())
            if len(self._calls) < MOST:
                self.sent += 1
                call = asyncio.ensure_future(self._call())
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _call(self) -> None:
        began, code, server = monotonic(), "OK", ""
        try:
            server = await self._ask()
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if isinstance(error, RpcFailed) and error.error.reason:
                code = error.error.reason
        except Exception as error:  # noqa: BLE001 - a call that ends otherwise is a finding too
            code = type(error).__name__
        self.answers.append(Answer(began, monotonic() - began, code, server))
