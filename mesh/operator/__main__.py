"""
Show the sagas of a running service, and have those that gave up try again.

    python -m mesh.operator                    the parked ones: id, what failed, how often, why
    python -m mesh.operator --state running    those on their way
    python -m mesh.operator show ID            one of them with its journal
    python -m mesh.operator replay ID ...      have parked ones try again, with all their patience
    python -m mesh.operator replay --all       every one that is parked

The service is found as every client finds it: MESH_REGISTRY, else CONSUL_HTTP_ADDR, else the Consul
on this machine.  Where who asks has to be proven (MESH_IDENTITY_KEY), it asks as the operator.
Exit 0 when it is done, 1 when a saga can't be replayed, 2 for a usage or a service that can't be
asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
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

import discovery
import mesh
from mesh.identity import Caller, Saying, speaking
from mesh.identity.settings import IdentityError, seal

STATES = ("parked", "running", "completed", "compensated")
SECONDS = 5.0


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
    code = 0
    for saga_id in ids:
        try:
            saga = await stub.ReplaySaga(ReplaySagaRequest(saga_id=saga_id), timeout=SECONDS)
            print(f"{saga.saga_id}  {_state(saga)} again")
        except grpc.aio.AioRpcError as error:
            if error.code() not in (
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.FAILED_PRECONDITION,
            ):
                raise
            print(f"{saga_id}  {error.details()}", file=sys.stderr)
            code = 1
    return code


async def run(asked: argparse.Namespace) -> int:
    environ = {**os.environ, "MESH_REGISTRY": asked.registry} if asked.registry else os.environ
    with speaking(_operator(environ)):
        async with (
            discovery.from_environment(environ) as registry,
            mesh.Channel(asked.service, registry=registry) as channel,
        ):
            stub = SagaAdminStub(channel)
            match asked.verb:
                case "show":
                    request = GetSagaRequest(saga_id=asked.ids[0])
                    _show(await stub.GetSaga(request, timeout=SECONDS))
                    return 0
                case "replay":
                    ids = asked.ids
                    if asked.all:
                        ids = [saga.saga_id async for saga in listed(stub, "parked")]
                    return await replay(stub, ids)
            async for saga in listed(stub, asked.state):
                print(_line(saga))
            return 0


def _operator(environ: Mapping[str, str]) -> Saying | None:
    """What is said of who asks, where that has to be proven."""
    sealing = seal(environ)
    return None if sealing is None else partial(sealing.say, Caller.named("service", "operator"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mesh.operator", description="Sagas, and their replay."
    )
    parser.add_argument("verb", nargs="?", choices=("list", "show", "replay"), default="list")
    parser.add_argument("ids", nargs="*", metavar="ID", help="which, for show and replay")
    parser.add_argument("--state", choices=STATES, default="parked", help="which are listed")
    parser.add_argument("--all", action="store_true", help="replay all that are parked")
    parser.add_argument("--service", default="orders", help="whose they are")
    parser.add_argument("--registry", default="", help="its URL, such as consul://127.0.0.1:8500")
    asked = parser.parse_args(arguments)
    if asked.verb == "show" and len(asked.ids) != 1:
        parser.error("show needs the id of one saga")
    if asked.verb == "replay" and bool(asked.ids) == asked.all:
        parser.error("replay needs ids, or --all")
    try:
        return asyncio.run(run(asked))
    except grpc.aio.AioRpcError as error:
        return _complain(f"{error.code().name}: {error.details()}")
    except (discovery.DiscoveryError, IdentityError) as error:
        return _complain(str(error))


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


def _complain(why: str) -> int:
    print(f"operator: {' '.join(why.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
