"""The audit of a shop on real sockets: quiet while it is busy, and not to be deceived."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import Random

import grpc
import pytest
from proxyless.audit.v1 import AuditorStub, AuditRequest, Report

from scripts.audit import main as script
from scripts.audit import settle
from services.audit.auditing import audit
from services.audit.reading import Shop as Books
from services.audit.reading import read
from services.audit.service import auditor
from tests.services.conserved import settled
from tests.services.shopping import STOCK, Open, asking
from tests.services.test_services_conserved import shopper

IMPORTED = {product.product_id: product.available for product in STOCK}


@pytest.fixture
async def books(shop: Open) -> AsyncIterator[Books]:
    async with AsyncExitStack() as stack:
        yield Books(
            *[
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(shop.shop.addresses[name])
                )
                for name in ("orders", "payments", "inventory", "notifications")
            ]
        )


def tampered(folder: Path, service: str, sql: str) -> None:
    """Change a service's file behind its back."""
    with closing(sqlite3.connect(folder / f"{service}.db")) as connection, connection:
        assert connection.execute(sql).rowcount == 1


async def test_nothing_is_wrong_at_any_time_of_a_busy_day(shop, books):
    day = [asyncio.create_task(shopper(shop.orders, Random(seed))) for seed in range(30)]
    while not all(task.done() for task in day):
        report = audit(await read(books, IMPORTED))
        assert report.wrong == []
    await asyncio.gather(*day)

    report = await settle(books, IMPORTED, 20)

    assert report.settled, (report.wrong, report.in_flight)
    assert report.figures["orders"] == "30"
    assert report.imported == IMPORTED


@pytest.mark.parametrize(
    ("service", "sql", "says"),
    [
        ("payments", "delete from payments where status = 'CAPTURED'", "not paid"),
        ("payments", "update payments set units = units + 1 where status = 'CAPTURED'", "cost 14"),
        ("payments", "update payments set status = 'CAPTURED' where status <> 'CAPTURED'", "took"),
        ("payments", "delete from outbox where event_type = 'PaymentDeclined'", "tells nothing"),
        ("inventory", "update products set sold = sold - 1 where product_id = 'mug'", "0 are sold"),
        ("inventory", "update products set reserved = 1 where product_id = 'jug'", "1 are reserv"),
        ("inventory", "update products set available = 9 where product_id = 'jug'", "20 came in"),
        ("inventory", "update reservations set status = 'HELD' where status = 'RELEASED'", "HELD"),
        ("inventory", "delete from outbox where event_type = 'StockReleased'", "not StockReserved"),
        ("notifications", "update notifications set kind = 'x' where kind = 'OrderConfirmed'", "x"),
        ("orders", "delete from outbox where event_type = 'OrderConfirmed'", "not OrderCreated"),
    ],
)
async def test_a_change_behind_a_services_back_is_found(shop, books, service, sql, says):
    bought = await shop.orders.CreateOrder(asking(("mug", 1)))
    lost = await shop.orders.CreateOrder(asking(("jug", 1), card="card-declined"))
    assert (await settle(books, IMPORTED, 20)).settled

    tampered(shop.shop.folder, service, sql)
    report = audit(await read(books, IMPORTED))

    text = "; ".join(finding.text for finding in report.wrong)
    assert says in text
    assert bought.order_id in text or lost.order_id in text or "product" in text or "ation" in text


async def test_the_auditor_answers_over_grpc(shop):
    await shop.orders.CreateOrder(asking(("mug", 2)))
    await settled(shop.orders)
    async with (
        auditor(shop.shop.registry) as server,
        server.serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        report: Report = await AuditorStub(channel).Audit(AuditRequest(imported=IMPORTED))
        assert not report.wrong
        assert dict(report.imported) == IMPORTED
        assert report.figures["confirmed"] == "1"

        wanted = AuditRequest(imported={**IMPORTED, "mug": 101})
        (finding,) = (await AuditorStub(channel).Audit(wanted)).wrong
        assert "mug: 101 came in" in finding.text


async def test_the_script_says_it_in_its_exit_code(shop, tmp_path, capsys):
    await shop.orders.CreateOrder(asking(("mug", 2)))
    addresses = shop.shop.addresses.items()
    listed = ", ".join(f'"{name}": ["{address}"]' for name, address in addresses)
    (tmp_path / "servers.json").write_text(f"{{{listed}}}")
    counted = tmp_path / "stock.json"
    told = [f"--registry=static://{tmp_path}/servers.json", "--wait=20", f"--stock={counted}"]

    assert await asyncio.to_thread(script, told) == 0
    assert "audit: all agrees; orders 1, confirmed 1, captured 29.00 USD" in capsys.readouterr().out

    counted.write_text(counted.read_text().replace('"mug": 100', '"mug": 101'))
    assert await asyncio.to_thread(script, told) == 1
    assert "WRONG      stock: product mug: 101 came in" in capsys.readouterr().out

    counted.write_text("[]")
    assert await asyncio.to_thread(script, told) == 2
    assert await asyncio.to_thread(script, ["--registry=static://127.0.0.1:1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("audit: ") for line in lines)
