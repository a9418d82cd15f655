"""An operator finds sagas that gave up, learns why, and has them try again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from proxyless.admin.v1 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_PARKED,
    GetSagaRequest,
    ListSagasRequest,
    ReplaySagaRequest,
    SagaAdminStub,
)

from mesh.operator.__main__ import main
from mesh.saga import Refused, SagaRunner
from mesh.server import Server
from mesh.server.sagas import SagaAdmin
from mesh.status import from_error
from mesh.store import Database, connect
from tests.saga.rig import DOWN, Till, running, start, until


@dataclass
class Stopped:
    """A service three of whose sagas are parked: o-0, o-1, o-2."""

    database: Database
    runner: SagaRunner
    till: Till
    address: str
    stub: Any


@pytest.fixture
async def stopped(tmp_path: Path) -> AsyncIterator[Stopped]:
    till = Till()
    till.answers["charge"] = [Refused("NO")] * 3
    till.answers["undo reserve"] = [DOWN] * 6
    async with (
        connect(f"sqlite:///{tmp_path}/orders.db") as database,
        running(database, till.saga(patience=2)) as runner,
        Server("orders", [SagaAdmin(database, runner)]).serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for number in range(3):
            await start(database, runner, f"o-{number}")
            await until(database, runner, "parked", saga_id=f"o-{number}")
        yield Stopped(database, runner, till, address, SagaAdminStub(channel))


async def test_parked_sagas_are_listed_in_pages_with_their_cause(stopped: Stopped) -> None:
    seen, token = [], ""
    while True:
        request = ListSagasRequest(page_size=2, page_token=token)
        page = await stopped.stub.ListSagas(request)
        seen.append([saga.saga_id for saga in page.sagas])
        assert all("UNAVAILABLE" in saga.cause for saga in page.sagas)
        token = page.next_page_token
        if not token:
            break
    others = await stopped.stub.ListSagas(ListSagasRequest(state=SAGA_STATE_COMPENSATED))

    assert seen == [["o-0", "o-1"], ["o-2"]]
    assert list(others.sagas) == []


async def test_a_parked_saga_is_replayed_once_and_ends(stopped: Stopped) -> None:
    parked = await stopped.stub.GetSaga(GetSagaRequest(saga_id="o-1"))
    await stopped.stub.ReplaySaga(ReplaySagaRequest(saga_id="o-1"))
    ended = await until(stopped.database, stopped.runner, "compensated", saga_id="o-1")
    with pytest.raises(grpc.aio.AioRpcError) as again:
        await stopped.stub.ReplaySaga(ReplaySagaRequest(saga_id="o-1"))

    assert parked.state == SAGA_STATE_PARKED
    assert [(line.step, line.what) for line in parked.lines][-1] == ("reserve", "parked")
    assert [each.what for each in ended.entries][-2:] == ["replayed", "undone"]
    said = from_error(again.value)
    assert (said.code.name, said.reason) == ("FAILED_PRECONDITION", "SAGA_NOT_PARKED")


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("GetSaga", GetSagaRequest(saga_id="none"), "SAGA_NOT_FOUND"),
        ("ReplaySaga", ReplaySagaRequest(saga_id="none"), "SAGA_NOT_FOUND"),
        ("ListSagas", ListSagasRequest(page_token="nonsense"), "INVALID_PAGE_TOKEN"),
    ],
)
async def test_what_is_not_there_is_said(
    stopped: Stopped, method: str, request_: Any, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await getattr(stopped.stub, method)(request_)

    assert from_error(failed.value).reason == reason


async def test_an_operator_does_it_from_the_command_line(
    stopped: Stopped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "servers.json").write_text(f'{{"orders": ["{stopped.address}"]}}')
    place = f"--registry=static://{tmp_path}/servers.json"

    async def operator(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, [place, *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = await operator("list")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["o-0", "o-1", "o-2"])
    assert "place:1  parked  2 failed: CallFailed: UNAVAILABLE" in out
    code, out, _ = await operator("show", "o-0")
    assert (code, out.splitlines()[-1].split()[1:3]) == (0, ["reserve", "parked"])
    assert await operator("replay", "o-0") == (0, "o-0  running again\n", "")
    await until(stopped.database, stopped.runner, "compensated", saga_id="o-0")
    code, _, err = await operator("replay", "o-0", "none")
    assert (code, err.splitlines()) == (
        1,
        ["o-0  saga 'o-0' is compensated, not parked", "none  there is no saga 'none'"],
    )
    code, out, _ = await operator("replay", "--all")
    assert (code, out) == (0, "o-1  running again\no-2  running again\n")
    for name in ("o-1", "o-2"):
        await until(stopped.database, stopped.runner, "compensated", saga_id=name)
    assert await operator("list") == (0, "", "")
    code, _, err = await operator("show", "none")
    assert (code, err) == (2, "operator: NOT_FOUND: there is no saga 'none'\n")
    with pytest.raises(SystemExit) as usage:
        await operator("replay")
    assert usage.value.code == 2
