"""
Keeping an answer with the effect that made it true: what a keyed handler does and declares.

    async def work(tx):
        await tx.execute("update ...")
        await keep(tx, reply)               # both are committed, or neither

    @in_one_transaction                     # this work is all that the method does
    async def ReserveStock(self, request, context): ...
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from google.protobuf.message import Message

from mesh.errors import Code, StatusError
from mesh.server import ledger as rows
from mesh.server.answer import Answer, pack
from mesh.server.ledger import FREE, Ledger, Mark, Transaction
from mesh.status import DOMAIN

F = TypeVar("F", bound=Callable[..., Any])

# For how long, in seconds, a caller is told to wait whose key is another call's.
RETRY_SECONDS = 1.0
_DECLARED = "_mesh_in_one_transaction"


class InProgress(StatusError):
    """Another call has this key, and nobody knows yet what comes of it."""

    def __init__(self, message: str) -> None:
        super().__init__(
            Code.ABORTED,
            message,
            reason="IDEMPOTENCY_IN_PROGRESS",
            domain=DOMAIN,
            retry_after=RETRY_SECONDS,
        )


class Overtaken(InProgress):
    """Another call has committed under this key meanwhile: nothing of this one may stand."""

    def __init__(self) -> None:
        super().__init__("another call with this idempotency key was first")


class Run:
    """The keyed call being served: where its answer goes."""

    def __init__(self, ledger: Ledger, mark: Mark, *, claimed: bool) -> None:
        self.ledger = ledger
        self.mark = mark
        # Whether the key was taken before the handler began; else keep() takes it.
        self.claimed = claimed
        # Whether keep() was called, and what it has stored as final, if that was committed.
        self.kept = False
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
    packed, state = pack(answer), rows.DONE if final else rows.KEPT
    if run.claimed:
        if not await run.ledger.write(tx, run.mark, state, packed):
            raise InProgress("the lease of this idempotency key was lost")
    elif await run.ledger.enter(tx, run.mark, state, packed) is not FREE:
        raise Overtaken
    run.kept = True
    run.final = packed if final else None


def in_one_transaction(method: F) -> F:
    """
    Declare that all a servicer's method does is one transaction, in which it keeps its answer.

    Its key is then taken by that transaction itself, and nothing is written before it.  Of two
    instances that run the method side by side under one key, one commits; the other is rolled back
    and answers what the first one kept.  So a method that asks anybody else can't be declared so.
    """
    setattr(method, _DECLARED, True)
    return method


def is_in_one_transaction(behaviour: Callable[..., Any]) -> bool:
    """Whether the method was declared so."""
    return bool(getattr(behaviour, _DECLARED, False))
