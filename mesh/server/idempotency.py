"""
A command asked twice under one key runs once and is answered twice.

    Idempotency(database) as an interceptor of mesh.Server:

    no key, a read, a stream ........ the handler, untouched
    key is new ...................... the handler, under a lease of 2 s that is renewed
    first one still runs ............ wait up to 1 s, then ABORTED / IDEMPOTENCY_IN_PROGRESS
    it is done ...................... its answer again, with initial metadata idempotent-replayed
    another request had the key ..... INVALID_ARGUMENT / IDEMPOTENCY_KEY_REUSED

A handler that changes the database stores its reply in its own transaction, so that a crash leaves
both or neither:  `await keep(tx, reply)`.  Only answers that will stay true are stored: a reply, or
an error of FINAL; after any other failure the key is free again.

A handler that is @in_one_transaction takes its key with it: no lease is written before, and of two
instances that run it at once the one that commits first is answered by both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from mesh.errors import Code, StatusError
from mesh.server import ledger as rows
from mesh.server.answer import Answer, pack, unpack
from mesh.server.blocking import Handler, awaitable, behaviour_of, shared_pool, with_behaviour
from mesh.server.keeping import (
    RUN,
    InProgress,
    Overtaken,
    Run,
    current_key,
    in_one_transaction,
    is_in_one_transaction,
    keep,
)
from mesh.server.key import caller_of, fingerprint, is_read, key_of
from mesh.server.ledger import FREE, Busy, Database, Found, Ledger, Mark
from mesh.server.owner import new_owner
from mesh.server.turns import NotYet, Turns
from mesh.store.migrate import migrations

__all__ = ["FINAL", "Idempotency", "current_key", "in_one_transaction", "is_read", "keep"]

REPLAYED = (("idempotent-replayed", "true"),)

LEASE_SECONDS = 2.0
RENEW_SECONDS = 0.5
WAIT_SECONDS = 1.0
RETENTION_SECONDS = 24 * 3600.0

# Errors that stay true of this request.  The others say "not now" (UNAVAILABLE, ABORTED, ...),
# "nobody knows" (INTERNAL, UNKNOWN) or "not like this" (INVALID_ARGUMENT, PERMISSION_DENIED).
FINAL = frozenset(
    {Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION, Code.OUT_OF_RANGE}
)

STILL_RUNNING = "the first call with this idempotency key is still running"

Behaviour = Callable[[], Awaitable[Any]]

logger = logging.getLogger("mesh.server")


class Idempotency(grpc.aio.ServerInterceptor):
    """The interceptor above, over one service's database; `caller` says who asks, where known."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        retention: float = RETENTION_SECONDS,
        lease: float = LEASE_SECONDS,
        wait: float = WAIT_SECONDS,
        caller: Callable[[Any], str] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pause = min(RENEW_SECONDS, lease / 4)
        self._wait = wait
        self._caller = caller or caller_of
        self._ledger = Ledger(clock, lease, retention)
        self._turns = Turns()
        self._migrating = asyncio.Lock()
        self._migrated = False
        self._made: dict[str, tuple[Handler, Handler]] = {}

    async def __aenter__(self) -> Self:
        """Make the table now; an interceptor that is not entered makes it with the first key."""
        await self._prepare()
        return self

    async def __aexit__(self, *why: object) -> None:
        """Nothing to give back: leases end with their handlers."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        method = handler_call_details.method
        known = self._made.get(method)
        if known is None or known[0] is not handler:
            made = handler if is_read(method) else self._around(method, handler)
            known = self._made[method] = handler, made
        return known[1]

    def _around(self, method: str, handler: Handler) -> Handler:
        behaviour = behaviour_of(awaitable(handler, shared_pool()))
        run = self._run_at_once if is_in_one_transaction(behaviour) else self._run_claimed

        async def keyed(request: Any, context: Any) -> Any:
            key = key_of(request, context.invocation_metadata() or ())
            if key is None:
                return await behaviour(request, context)
            scope = f"{method}\n{self._caller(context)}"
            mark = Mark(scope, key, fingerprint(request), new_owner())
            remaining = context.time_remaining()
            patience = self._wait if remaining is None else min(self._wait, remaining)
            give_up = time.monotonic() + patience
            await self._prepare()
            answer = await run(mark, give_up, partial(behaviour, request, context), context)
            if not isinstance(answer, Answer):
                return answer
            await context.send_initial_metadata(REPLAYED)
            return unpack(answer)

        return with_behaviour(handler, keyed)

    async def _run_claimed(
        self, mark: Mark, give_up: float, behaviour: Behaviour, context: Any
    ) -> Any:
        """The reply, or the Answer that was given before; the key is taken first."""
        answer = await self._until_settled(mark, give_up, self._try)
        if answer is not None:
            return answer
        run = Run(self._ledger, mark, claimed=True)
        with self._serving(run):
            try:
                reply = await behaviour()
            except StatusError as error:
                await (self._finish(mark, error) if error.code in FINAL else self._give_up(mark))
                raise
            except BaseException:
                await self._give_up(mark)
                raise
            if _failed(context):
                await self._give_up(mark)
            elif run.final != pack(reply):
                await self._finish(mark, reply)
            return reply

    async def _run_at_once(
        self, mark: Mark, give_up: float, behaviour: Behaviour, context: Any
    ) -> Any:
        """The reply, or the Answer that was given before; the key is taken with the effect."""
        run = Run(self._ledger, mark, claimed=False)
        found = await self._look(mark)
        if isinstance(found, Answer):
            return found
        patience = give_up - time.monotonic()
        try:
            async with self._turns.of((mark.scope, mark.key), patience) as waited:
                if waited or found is not FREE:
                    answer = await self._until_settled(mark, give_up, self._look)
                    if answer is not None:
                        return answer
                with self._serving(run):
                    return await self._ran(run, behaviour, context)
        except Overtaken:
            # Another instance was first: what it has kept is the answer of both.
            answer = await self._until_settled(mark, give_up, self._look)
            if answer is None:
                raise
            return answer
        except NotYet:
            raise InProgress(STILL_RUNNING) from None

    async def _ran(self, run: Run, behaviour: Behaviour, context: Any) -> Any:
        mark = run.mark
        try:
            reply = await behaviour()
        except Overtaken:
            raise
        except StatusError as error:
            if run.kept:
                await (self._finish(mark, error) if error.code in FINAL else self._give_up(mark))
                raise
            # The refusal may well be because of what another instance has done under this key.
            found = await (self._enter(mark, error) if error.code in FINAL else self._look(mark))
            if isinstance(found, Answer):
                return found
            raise
        except BaseException:
            await self._give_up(mark)
            raise
        if _failed(context):
            await self._give_up(mark)
        elif run.kept and run.final != pack(reply):
            await self._finish(mark, reply)
        elif not run.kept:
            found = await self._enter(mark, reply)
            return found if isinstance(found, Answer) else reply
        return reply

    async def _until_settled(
        self, mark: Mark, give_up: float, look: Callable[[Mark], Awaitable[Found]]
    ) -> Answer | None:
        """What was answered before, waited for if need be; None when the key is free."""
        while True:
            found = await look(mark)
            if isinstance(found, Answer):
                return found
            if not isinstance(found, Busy):
                return None
            if time.monotonic() >= give_up:
                raise InProgress(STILL_RUNNING)
            await self._settled(mark, found, give_up)

    async def _look(self, mark: Mark) -> Found:
        return await self._database.read(lambda tx: self._ledger.look(tx, mark))

    async def _enter(self, mark: Mark, answer: Message | StatusError) -> Found:
        """Store the answer of a handler that has kept none; one that can't be is still one."""
        try:
            return await self._database.transaction(
                lambda tx: self._ledger.enter(tx, mark, rows.DONE, pack(answer))
            )
        except StatusError:
            raise
        except Exception:
            logger.exception("the answer under idempotency key %r was not stored", mark.key)
            return FREE

    async def _try(self, mark: Mark) -> Found:
        """One claim, which is given back when the caller has gone before it was answered."""
        claiming = asyncio.ensure_future(
            self._database.transaction(lambda tx: self._ledger.claim(tx, mark))
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            (found,) = await asyncio.gather(claiming, return_exceptions=True)
            if found is FREE:
                await self._give_up(mark)
            raise

    async def _settled(self, mark: Mark, busy: Busy, give_up: float) -> None:
        """Until the first call has ended, its lease is over, or patience is."""
        lapse = time.monotonic() + max(0.0, busy.leased_until - self._clock())
        loop = asyncio.get_running_loop()
        until = loop.time() + min(lapse, give_up) - time.monotonic()
        try:
            async with asyncio.timeout_at(until):
                async for _ in self._database.changes():
                    if not isinstance(await self._look(mark), Busy):
                        return
        except TimeoutError:
            return  # the caller of this looks again, and decides

    @contextmanager
    def _serving(self, run: Run) -> Iterator[None]:
        """While the handler runs: RUN is set, and the lease is kept if it takes long."""
        loop, tasks = asyncio.get_running_loop(), []

        def begin() -> None:
            tasks.append(loop.create_task(self._renew(run), name="idempotency lease"))

        timer = loop.call_later(self._pause, begin)
        token = RUN.set(run)
        try:
            yield
        finally:
            RUN.reset(token)
            timer.cancel()
            for task in tasks:
                task.cancel()

    async def _renew(self, run: Run) -> None:
        """A renewal that fails is tried again; a handler that outlives its lease cannot keep()."""
        mark, held = run.mark, True
        while held:
            try:
                if run.claimed or run.kept:
                    held = await self._database.transaction(lambda tx: self._ledger.renew(tx, mark))
            except Exception:
                logger.exception("idempotency key %r could not be renewed", mark.key)
            await asyncio.sleep(self._pause)

    async def _finish(self, mark: Mark, answer: Message | StatusError) -> None:
        """Store the answer; one that cannot be stored is still the answer."""
        try:
            stored = await self._database.transaction(
                lambda tx: self._ledger.write(tx, mark, rows.DONE, pack(answer))
            )
        except Exception:
            logger.exception("the answer under idempotency key %r was not stored", mark.key)
            return
        if not stored:
            logger.error("idempotency key %r was lost while its handler ran", mark.key)

    async def _give_up(self, mark: Mark) -> None:
        try:
            await self._database.transaction(lambda tx: self._ledger.give_up(tx, mark))
        except Exception:
            logger.exception("idempotency key %r is free after its lease only", mark.key)

    async def _prepare(self) -> None:
        if self._migrated:
            return
        async with self._migrating:
            if not self._migrated:
                await self._database.migrate(rows.COMPONENT, migrations("mesh.server"))
                self._migrated = True


def _failed(context: Any) -> bool:
    """Whether the handler said set_code() and returned."""
    return context.code() not in (None, 0, grpc.StatusCode.OK)
