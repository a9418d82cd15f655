"""What an operator does with the sagas of a service: list, show, replay."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
from proxyless.admin.v1 import (
    GetSagaRequest,
    ListSagasRequest,
    ReplaySagaRequest,
    Saga,
    SagaAdminStub,
    SagaState,
)

from mesh.operator.saying import SECONDS, each

VERBS = ("list", "show", "replay")
STATES = ("parked", "running", "completed", "compensated")


async def run(channel: grpc.aio.Channel, asked: argparse.Namespace) -> int:
    """Do what was asked; the exit code."""
    stub = SagaAdminStub(channel)
    match asked.verb:
        case "show":
            _show(await stub.GetSaga(GetSagaRequest(saga_id=asked.ids[0]), timeout=SECONDS))
            return 0
        case "replay":
            ids = asked.ids
            if asked.all:
                ids = [saga.saga_id async for saga in listed(stub, "parked")]
            return await replay(stub, ids)
    async for saga in listed(stub, asked.state or "parked"):
        print(_line(saga))
    return 0


async def listed(stub: Any, state: str) -> AsyncIterator[Saga]:
    """The sagas of a state, page by page."""
    token, number = "", SagaState.Value(f"SAGA_STATE_{state.upper()}")
    while True:
        request = ListSagasRequest(state=number, page_token=token)
        page = await stub.ListSagas(request, timeout=SECONDS)
        for saga in page.sagas:
            yield saga
        token = page.next_page_token
        if not token:
            return


async def replay(stub: Any, ids: Sequence[str]) -> int:
    """Replay each; one line for each, 1 when one could not be."""

    async def one(saga_id: str) -> str:
        saga = await stub.ReplaySaga(ReplaySagaRequest(saga_id=saga_id), timeout=SECONDS)
        return f"{saga.saga_id}  {_state(saga)} again"

    return await each(ids, one)


def _line(saga: Saga) -> str:
    why = f"  {saga.attempts} failed: {saga.cause}" if saga.cause else ""
    return f"{saga.saga_id}  {saga.definition.rpartition(':')[0]}  {_state(saga)}{why}"


def _show(saga: Saga) -> None:
    print(_line(saga))
    for line in saga.lines:
        at = datetime.fromtimestamp(line.time.ToMicroseconds() / 1e6, UTC)
        detail = "" if line.detail == "null" else f"  {line.detail}"
        print(f"  {at:%H:%M:%S.%f}  {line.step or '(whole)':12} {line.what}{detail}")


def _state(saga: Saga) -> str:
    return SagaState.Name(saga.state).removeprefix("SAGA_STATE_").lower()
