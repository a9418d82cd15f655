"""Rates that change while they are in force: what is right at once, what is wrong never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.guard import Guard
from gateway.quota import Quota
from gateway.rates import Rate, Rates, RatesError
from gateway.rates_file import RatesFile
from tests.gateway.scripted import until
from tests.gateway.test_gateway_guard import guarded
from tests.gateway.test_gateway_quota import Asking


def test_a_bucket_by_a_slow_rate_is_no_debt_by_a_fast_one() -> None:
    asking = Asking("* 1/h:100")
    for _ in range(100):
        asking.take("key:a")
    assert asking.take("key:a") == pytest.approx(3600)

    asking.quota.rates = Rates.parse("* 10/s:20")

    assert asking.take("key:a") == pytest.approx(0.1)
    asking.now += 1.0
    assert [asking.take("key:a") for _ in range(11)] == [0] * 10 + [pytest.approx(0.1)]


@asynccontextmanager
async def followed(path: Path, text: str, **options: Any) -> AsyncIterator[tuple[RatesFile, list]]:
    """A file of rates that is looked at often, and what has come into force."""
    path.write_text(text)
    file, used = RatesFile(path, seconds=0.01, **options), []
    task = asyncio.create_task(file.follow(lambda rates: used.append(rates.rates)))
    try:
        yield file, used
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_change_of_the_file_is_in_force_and_what_is_wrong_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rates"
    async with followed(path, "* 1", usual=Rate(9, 9)) as (file, used):
        path.write_text("key:a 2")
        await until(lambda: len(used) == 1)
        for wrong, why in (("key:a x", "line 1: 'x'"), ("key:a 1\nnobody 1", "line 2")):
            path.write_text(wrong)
            await until(lambda why=why: why in file.refused)
        path.unlink()
        await until(lambda: "No such file" in file.refused)
        (tmp_path / "new").write_text("* 3")
        (tmp_path / "new").rename(path)
        await until(lambda: len(used) == 2)
        await until(lambda: file.refused == "")

    assert used == [{"*": Rate(9, 9), "key:a": Rate(2, 2)}, {"*": Rate(3, 3)}]
    said = [each.getMessage() for each in caplog.records if each.name == "gateway.rates_file"]
    assert [line.rpartition(" ")[2] == "force" for line in said] == [True, *[False] * 3, True]


def test_a_file_that_is_wrong_from_the_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(RatesError):
        RatesFile(tmp_path / "none")


async def test_a_gateway_goes_by_the_new_rates_and_shows_them(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = tmp_path / "rates"
    path.write_text("address:* 1/d:2\n")
    file = RatesFile(path, seconds=0.01)
    quota = Quota(file.first, file=file)
    admin = ("127.0.0.1", 0)
    async with guarded(request.node.nodeid, guard=Guard(quota=quota), admin=admin) as shop:

        async def ask() -> int:
            status, _, _ = await shop.ask("GET", "/v1/orders/o")
            return int(status)

        async def shown() -> dict[str, Any]:
            url = f"{shop.gateway.app.admin_url}admin/config"
            async with shop.http.get(url) as answer:
                found: dict[str, Any] = (await answer.json())["guard"]
                return found

        assert [await ask() for _ in range(3)] == [200, 200, 429]
        path.write_text("address:* 1000\n")
        await until(lambda: quota.rates.of("address:x") == Rate(1000, 1000))
        async with asyncio.timeout(5):  # what was drawn dry fills by the new rate
            while await ask() != 200:
                await asyncio.sleep(0.01)
        assert [await ask() for _ in range(3)] == [200] * 3
        path.write_text("address: nothing\n")
        await until(lambda: bool(quota.refused))
        assert [await ask() for _ in range(3)] == [200] * 3
        told = await shown()

    assert told["rates"]["address:*"]["burst"] == 1000
    assert "line 1" in told["rates_refused"]
