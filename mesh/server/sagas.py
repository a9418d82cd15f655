"""
SagaAdmin: what an operator sees of a service's sagas, and the one thing that they do to them.

    mesh.Server("orders", [Orders(...), SagaAdmin(database, runner)])

Any instance on the service's database may answer: what it is told stands in the journal.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from proxyless.admin.v1 import (
    GetSagaRequest,
    JournalLine,
    ListSagasRequest,
    ListSagasResponse,
    ReplaySagaRequest,
    Saga,
    SagaAdminServicer,
    SagaState,
)

from mesh.errors import Code, StatusError
from mesh.saga import Instance, SagaRunner
from mesh.status import DOMAIN
from mesh.store import Database, Transaction

DEFAULT_SIZE, MAX_SIZE = 50, 1000
_PREFIX = "SAGA_STATE_"


class SagaAdmin(SagaAdminServicer):
    """Answers SagaAdmin from the journal that *runner* writes in *database*."""

    def __init__(self, database: Database, runner: SagaRunner) -> None:
        self._database = database
        self._runner = runner

    async def ListSagas(self, request: ListSagasRequest, context: Any) -> ListSagasResponse:
        state: Any = SagaState.Name(request.state or SagaState.SAGA_STATE_PARKED)
        state = state.removeprefix(_PREFIX).lower()
        size = min(request.page_size or DEFAULT_SIZE, MAX_SIZE)
        after = _place(request.page_token) if request.page_token else (0.0, "")
        found = await self._database.read(
            lambda tx: self._runner.listed(tx, state, size + 1, after)
        )
        shown = found[:size]
        return ListSagasResponse(
            sagas=[_message(each, lines=False) for each in shown],
            next_page_token=_token(shown[-1]) if len(found) > size else "",
        )

    async def GetSaga(self, request: GetSagaRequest, context: Any) -> Saga:
        return _message(await self._database.read(lambda tx: self._found(tx, request.saga_id)))

    async def ReplaySaga(self, request: ReplaySagaRequest, context: Any) -> Saga:
        async def work(tx: Transaction) -> Instance:
            found = await self._found(tx, request.saga_id)
            if found.state == "running":
                return found
            if not await self._runner.replay(tx, request.saga_id):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"saga {request.saga_id!r} is {found.state}, not parked",
                    reason="SAGA_NOT_PARKED",
                    domain=DOMAIN,
                )
            return await self._found(tx, request.saga_id)

        return _message(await self._database.transaction(work))

    async def _found(self, tx: Transaction, saga_id: str) -> Instance:
        found = await self._runner.find(tx, saga_id)
        if found is None:
            raise StatusError(
                Code.NOT_FOUND,
                f"there is no saga {saga_id!r}",
                reason="SAGA_NOT_FOUND",
                domain=DOMAIN,
            )
        return found


def _message(instance: Instance, *, lines: bool = True) -> Saga:
    return Saga(
        saga_id=instance.id,
        definition=instance.definition,
        state=SagaState.Value(f"{_PREFIX}{instance.state.upper()}"),
        owner=instance.owner,
        attempts=instance.attempts,
        cause=instance.cause,
        start_time=_time(instance.started_at),
        deadline=None if instance.deadline is None else _time(instance.deadline),
        lines=[
            JournalLine(
                step=line.entry.step,
                what=line.entry.what,
                detail=json.dumps(line.detail, ensure_ascii=False),
                time=_time(line.at),
            )
            for line in (instance.lines if lines else ())
        ],
    )


def _time(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _token(last: Instance) -> str:
    text = json.dumps([last.started_at, last.id], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(token: str) -> tuple[float, str]:
    """The time and id of the last saga of the page before."""
    try:
        started_at, saga_id = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return float(started_at), str(saga_id)
    except (ValueError, TypeError, RecursionError):
        why = "is not a token of this list"
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"page_token: {why}",
            reason="INVALID_PAGE_TOKEN",
            domain=DOMAIN,
            fields=[("page_token", why)],
        ) from None
