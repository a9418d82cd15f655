"""
The column, less balancing, around any awaitable work: an HTTP client, a database, a legacy system.

    async with mesh.guard(policy, "legacy"):         the block is one attempt: it cannot be repeated
        ...

    @mesh.guard(policy, "legacy", idempotent=True)   the function can: retries and hedges apply
    async def fetch() -> bytes: ...

What the work raises is what the caller gets; the column only learns whether it failed, through
`classify`.  Guards of one name are one guard: they share a circuit, a bulkhead and a budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from functools import partial, wraps
from random import Random
from time import monotonic
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from discovery.registry import Registry
from mesh.attended import AttendedTask
from mesh.call import Call, Idempotency, Method
from mesh.column import Memory, column
from mesh.drive import Wire, drive
from mesh.errors import CallFailed, Code, MeshError, PolicyError
from mesh.flow import Inner
from mesh.policy.config import Policy, Rules
from mesh.sources import PolicySource

P = ParamSpec("P")
R = TypeVar("R")
Classify = Callable[[BaseException], Code | None]


def classify(error: BaseException) -> Code | None:
    """Which status an error amounts to; None says that the work was done, and answered so."""
    if isinstance(error, TimeoutError):
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, OSError):
        return Code.UNAVAILABLE
    return error.code if isinstance(error, MeshError) else None


class Guard:
    """A column of its own for work of one name; a context manager, and a decorator."""

    def __init__(
        self,
        policy: Policy | PolicySource | None,
        name: str,
        *,
        idempotent: bool = False,
        classify: Classify = classify,
        registry: Registry | str | None = None,
        memory: Memory | None = None,
    ) -> None:
        level = Idempotency.IDEMPOTENT if idempotent else Idempotency.UNKNOWN
        self._method = Method(name, idempotency=level)
        self._classify = classify
        self._make = partial(
            column, memory=memory or Memory(), clock=monotonic, rng=Random(), balanced=False
        )
        self._attended = AttendedTask("guard", policy, self.use, registry=registry)
        self.use(self._attended.first)
        self._entered: dict[asyncio.Task[Any] | None, list[_Block]] = {}

    def use(self, policy: Policy) -> None:
        """Put a policy in force for the work that starts now."""
        self.policy = policy
        self._once: Inner = self._make(unrepeated(policy))
        self._flow: Inner = self._make(policy)

    @property
    def policy_error(self) -> str:
        """What is wrong with the newest policy of a file or key; "" when it is in force."""
        return self._attended.error

    async def aclose(self) -> None:
        """Follow the policy's source no more; its last good policy stays in force."""
        await self._attended.aclose()

    def __call__(self, work: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @wraps(work)
        async def guarded(*arguments: P.args, **keywords: P.kwargs) -> R:
            async def attempt(call: Call) -> R:
                try:
                    async with asyncio.timeout(call.remaining(monotonic())):
                        return await work(*arguments, **keywords)
                except Exception as error:
                    raise self._failure(error) from error

            self._attend()
            reply: R = await self._drive(self._flow, attempt)
            return reply

        return guarded

    async def __aenter__(self) -> None:
        self._attend()
        block = _Block(partial(self._drive, self._once))
        await block.enter()
        self._entered.setdefault(asyncio.current_task(), []).append(block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        block = self._entered[task].pop()
        if not self._entered[task]:
            del self._entered[task]
        await block.leave(kind, error, traceback, self._failure)

    def _attend(self) -> None:
        if self._attended.changes:
            self._attended.attend()

    async def _drive(self, flow: Inner, wire: Wire) -> Any:
        call = Call(self._method)
        try:
            return await drive(flow(call), call, wire)
        except CallFailed as failure:
            if failure.source is None:
                raise
            raise failure.source from failure.source.__cause__

    def _failure(self, error: BaseException) -> CallFailed:
        # UNKNOWN says nothing of health: the work answered, if only by raising.
        return CallFailed(self._classify(error) or Code.UNKNOWN, str(error), source=error)


class _Block:
    """One `async with`: the flow runs beside the block, from its Attempt on waiting for its end."""

    def __init__(self, run: Callable[[Wire], Awaitable[Any]]) -> None:
        self._run = run
        loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[float | None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._flow: asyncio.Future[Any] | None = None
        self._timeout: asyncio.Timeout | None = None

    async def enter(self) -> None:
        """Return once the flow lets the block begin; raise what it says instead."""
        self._flow = flow = asyncio.ensure_future(self._run(self._attempt))
        try:
            await asyncio.wait([flow, self._begun], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            flow.cancel()
            raise
        if not self._begun.done():
            await flow
        self._timeout = asyncio.timeout(self._begun.result())
        await self._timeout.__aenter__()

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        failure: Callable[[BaseException], CallFailed],
    ) -> None:
        """Tell the flow how the block ended; what the block raised goes its way."""
        assert self._timeout is not None
        assert self._flow is not None
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            await self._tell(failure(late))
            raise
        if error is None:
            await self._tell(None)
        elif isinstance(error, Exception):
            await self._tell(failure(error))
        else:
            self._flow.cancel()
            await asyncio.wait([self._flow])

    async def _tell(self, failure: CallFailed | None) -> None:
        assert self._flow is not None
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)
        await asyncio.wait([self._flow])
        if not self._flow.cancelled():
            self._flow.exception()  # seen: the block's own error is what is raised

    async def _attempt(self, call: Call) -> None:
        self._begun.set_result(call.remaining(monotonic()))
        await self._ended


def unrepeated(policy: Policy) -> Policy:
    """The policy for work that can be done only once: nothing in it repeats."""
    methods = {name: replace(rules, **_NOTHING) for name, rules in policy.methods.items()}
    return replace(policy, methods=methods, **_NOTHING)


_NOTHING: dict[str, Any] = {
    field.name: None for field in fields(Rules) if field.name in ("retry", "hedge")
}
# A name means the same guard everywhere in the process: the block at hand has no other place for
# what it learns.
_MEMORIES: dict[str, Memory] = {}


def guard(
    policy: Policy | PolicySource | None = None,
    name: str = "",
    *,
    idempotent: bool = False,
    classify: Classify = classify,
    registry: Registry | str | None = None,
) -> Guard:
    """
    A guard for work of this name; all of one name in the process share what they learn.

    A policy may come from a file or, with the `registry` (entered, or its URL), from a key.  Such a
    guard is made once and kept: it follows its source from its first use until `aclose`.
    """
    if not name:
        raise PolicyError("guard.name", name, "names no work to guard")
    memory = _MEMORIES.setdefault(name, Memory())
    return Guard(
        policy,
        name,
        idempotent=idempotent,
        classify=classify,
        registry=registry,
        memory=memory,
    )
