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
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message

from mesh.errors import Code, StatusError
from mesh.identity.caller import CALLER
from mesh.server import ledger as rows
from mesh.server.answer import Answer, pack, unpack
from mesh.server.blocking import Handler, awaitable, behaviour_of, shared_pool, with_behaviour
from mesh.server.key import fingerprint, key_of
from mesh.server.ledger import FREE, Busy, Database, Found, Ledger, Mark, Transaction
from mesh.server.owner import new_owner
from mesh.status import DOMAIN
from mesh.store.migrate import migrations

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

READ_ONLY = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS

logger = logging.getLogger("mesh.server")


class Run:
    """The keyed call being served: where its answer goes."""

    def __init__(self, ledger: Ledger, mark: Mark) -> None:
        self.ledger = ledger
        self.mark = mark
        # What keep() has stored as final, if its transaction was committed.
        self.final: Answer | None = None


RUN: ContextVar[Run | None] = ContextVar("mesh_idempotency", default=None)


def current_key() -> str | None:
    """The idempotency key of the call being served; None without one."""
    run = RUN.get()
    return None if run is None else run.mark.key


async def keep(tx: Transaction, answer: Message | StatusError, *, final: bool = True) -> None:
    """
    Store the call's answer in the handler's own transaction; without a key there is nothing to do.

    An answer that is not *final* is what a duplicate gets should this process die; while it lives,
    duplicates wait for what the handler will return.  Raises ABORTED when the key was lost to
    somebody else, so that the transaction is rolled back.
    """
    run = RUN.get()
    if run is None:
        return
    packed = pack(answer)
    if not await run.ledger.write(tx, run.mark, rows.DONE if final else rows.KEPT, packed):
        raise _in_progress("the lease of this idempotency key was lost")
    run.final = packed if final else None


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
        self._lease = lease
        self._wait = wait
        self._caller = caller or caller_of
        self._ledger = Ledger(clock, lease, retention)
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

        async def keyed(request: Any, context: Any) -> Any:
            key = key_of(request, context.invocation_metadata() or ())
            if key is None:
                return await behaviour(request, context)
            scope = f"{method}\n{self._caller(context)}"
            mark = Mark(scope, key, fingerprint(request), new_owner())
            answer = await self._claim(mark, context)
            if answer is not None:
                await context.send_initial_metadata(REPLAYED)
                return unpack(answer)
            return await self._run(mark, behaviour, request, context)

        return with_behaviour(handler, keyed)

    async def _claim(self, mark: Mark, context: Any) -> Answer | None:
        """None when the key is ours to run, else the answer that was given before."""
        await self._prepare()
        remaining = context.time_remaining()
        patience = self._wait if remaining is None else min(self._wait, remaining)
        give_up = time.monotonic() + patience
        while True:
            found = await self._try(mark)
            if isinstance(found, Answer):
                return found
            if not isinstance(found, Busy):
                return None
            if time.monotonic() >= give_up:
                raise _in_progress("the first call with this idempotency key is still running")
            await self._settled(mark, found, give_up)

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
                    found = await self._database.read(lambda tx: self._ledger.look(tx, mark))
                    if not isinstance(found, Busy):
                        return
        except TimeoutError:
            return  # the caller of this looks again, and decides

    async def _run(
        self, mark: Mark, behaviour: Callable[..., Any], request: Any, context: Any
    ) -> Any:
        with self._renewing(mark):
            run = Run(self._ledger, mark)
            token = RUN.set(run)
            try:
                reply = await behaviour(request, context)
            except StatusError as error:
                await (self._finish(mark, error) if error.code in FINAL else self._give_up(mark))
                raise
            except BaseException:
                await self._give_up(mark)
                raise
            finally:
                RUN.reset(token)
            if context.code() not in (None, 0, grpc.StatusCode.OK):
                await self._give_up(mark)  # the handler said set_code() and returned
            elif run.final != pack(reply):
                await self._finish(mark, reply)
            return reply

    @contextmanager
    def _renewing(self, mark: Mark) -> Iterator[None]:
        """Keep the lease while the handler runs."""
        task = asyncio.create_task(self._renew(mark), name="idempotency lease")
        try:
            yield
        finally:
            task.cancel()

    async def _renew(self, mark: Mark) -> None:
        """A renewal that fails is tried again; a handler that outlives its lease cannot keep()."""
        held = True
        while held:
            await asyncio.sleep(min(RENEW_SECONDS, self._lease / 4))
            try:
                held = await self._database.transaction(lambda tx: self._ledger.renew(tx, mark))
            except Exception:
                logger.exception("idempotency key %r could not be renewed", mark.key)

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


def is_read(method: str) -> bool:
    """Whether the contract declares the rpc free of effects; then a key means nothing."""
    try:
        found = descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    except KeyError:
        return False
    return found.GetOptions().idempotency_level == READ_ONLY


def caller_of(context: Any) -> str:
    """Who calls: as it is proven, else the certified name of the peer, "" where nobody asks."""
    caller = CALLER.get()
    if caller is not None:
        return f"{caller.principal} {caller.subject}".rstrip()
    identities = context.peer_identities() or ()
    return ",".join(sorted(each.decode(errors="replace") for each in identities))


def _in_progress(message: str) -> StatusError:
    return StatusError(
        Code.ABORTED,
        message,
        reason="IDEMPOTENCY_IN_PROGRESS",
        domain=DOMAIN,
        retry_after=WAIT_SECONDS,
    )
