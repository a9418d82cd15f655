"""
Calls in blocks: how a benchmark makes many of them, on an event loop or on threads.

    with Loop(ports) as client:  client.for_seconds("mesh, no rules", 64, 0.1)   a block by time
    with Threads(ports) as ...:  client.for_calls("bare grpc", 1, 200)           a block by calls

A block is short, so that all variants can take turns within a second: what the host does meanwhile
happens to all of them alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Protocol, Self

from scripts.measuring import echo, echo_blocking

MOST = 64
# Whether one more call is to be made.
More = Callable[[], bool]


class Client(Protocol):
    """One process's channels to the echo servers; the first variant is the bare one."""

    @property
    def names(self) -> list[str]: ...

    def for_seconds(self, name: str, concurrency: int, seconds: float) -> int:
        """Call for so long, so many at once; how often."""
        ...

    def for_calls(self, name: str, concurrency: int, calls: int) -> None:
        """Call so often in all, so many at once."""
        ...


class _Blocks:
    """What both clients share: when a block ends."""

    def _run(self, name: str, concurrency: int, more: More) -> None:
        raise NotImplementedError

    def for_seconds(self, name: str, concurrency: int, seconds: float) -> int:
        calls, ends = 0, time.monotonic() + seconds

        def more() -> bool:
            nonlocal calls
            if time.monotonic() >= ends:
                return False
            calls += 1
            return True

        self._run(name, concurrency, more)
        return calls

    def for_calls(self, name: str, concurrency: int, calls: int) -> None:
        left = iter(range(calls))
        self._run(name, concurrency, lambda: next(left, None) is not None)


class Loop(_Blocks):
    """Calls on an event loop of its own."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._says: dict[str, Callable[[], Awaitable[Any]]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._says)

    def __enter__(self) -> Self:
        self._says = self._runner.run(echo.variants(self._stack, self._ports))
        return self

    def __exit__(self, *why: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def _run(self, name: str, concurrency: int, more: More) -> None:
        say = self._says[name]

        async def caller() -> None:
            while more():
                await say()

        async def callers() -> None:
            if concurrency == 1:
                await caller()
            else:
                await asyncio.gather(*(caller() for _ in range(concurrency)))

        self._runner.run(callers())


class Threads(_Blocks):
    """Calls that block, each of those in flight on a thread."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._stack = ExitStack()
        self._says: dict[str, Callable[[], Any]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._says)

    def __enter__(self) -> Self:
        self._says = echo_blocking.variants(self._stack, self._ports)
        self._threads = self._stack.enter_context(ThreadPoolExecutor(MOST))
        return self

    def __exit__(self, *why: object) -> None:
        self._stack.close()

    def _run(self, name: str, concurrency: int, more: More) -> None:
        say = self._says[name]

        def caller() -> None:
            while more():
                say()

        if concurrency == 1:
            caller()
        else:
            for done in [self._threads.submit(caller) for _ in range(concurrency)]:
                done.result()


CLIENTS: dict[str, Callable[[list[int]], Loop | Threads]] = {"asyncio": Loop, "blocking": Threads}
