"""An operator and a notification that could not be written: found, understood, mended, told."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from proxyless.admin.v1 import DeadLetterAdminStub, ListDeadLettersRequest
from shop.orders.v1 import ORDER_STATUS_CONFIRMED

from services.bus import from_url
from services.notifications import service
from tests.events.brokers import started
from tests.services.shopping import Open, Shop, asking, refused

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Customers whom notifications can't write to; each event is tried twice."""
    customers: set[str] = set()
    write = service.notification

    def fails(event_id: str, event_type: str, payload: bytes, now: int):
        written = write(event_id, event_type, payload, now)
        if written is not None and written.customer_id in customers:
            raise LookupError(f"no address of {written.customer_id}")
        return written

    monkeypatch.setattr(service, "notification", fails)
    monkeypatch.setattr(service, "follow", partial(service.follow, attempts=2))
    return customers


async def operator(shop: Shop, *words: str) -> tuple[int | None, list[str], str]:
    """`python -m mesh.operator`, as a process: its exit code and what it said."""
    servers = shop.folder / "servers.json"
    servers.write_text(json.dumps({name: [at] for name, at in shop.addresses.items()}))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh.operator",
        f"--registry=static://{servers}",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos")))},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode().splitlines(), err.decode()


async def notes(shop: Open) -> list[tuple[str, str]]:
    sql = "select customer_id, kind from notifications order by customer_id, kind"
    return [tuple(row) for row in await shop.shop.rows("notifications", sql)]


async def told(shop: Open, count: int) -> list[tuple[str, str]]:
    """The notifications, once there are so many."""
    async with asyncio.timeout(30):
        while len(found := await notes(shop)) < count:
            await asyncio.sleep(0.05)
    return found


async def dead(shop: Open, count: int) -> None:
    sql = "select 1 from inbox_held where dead_at is not null"
    async with asyncio.timeout(30):
        while len(await shop.shop.rows("notifications", sql)) < count:
            await asyncio.sleep(0.05)


async def test_an_operator_finds_mends_and_redrives_it(shop: Open, broken: set[str]) -> None:
    broken |= {"c-poor", "c-gone"}
    for customer in ("c-poor", "c-well", "c-gone"):
        order = await shop.orders.CreateOrder(asking(("mug", 1), customer=customer))
        assert order.status == ORDER_STATUS_CONFIRMED
    await dead(shop, 2)
    # Whoever is not concerned was told, of both events of each order.
    assert {customer for customer, _ in await told(shop, 2)} == {"c-well"}

    code, lines, _ = await operator(shop.shop, "dead")
    assert (code, len(lines)) == (0, 2)
    poor, gone = (line.split()[0] for line in lines)
    assert poor.startswith("notifications/orders/")
    assert "OrderCreated order/" in lines[0]
    assert lines[0].endswith("dead, 1 behind it  2 failed: LookupError: no address of c-poor")
    code, lines, _ = await operator(shop.shop, "dead", "show", poor)
    assert (code, lines[0].split()[0]) == (0, poor)
    assert [line.split()[0] for line in lines[1:]] == ["event", "happened", "died", "payload"]

    broken.clear()
    code, lines, _ = await operator(shop.shop, "dead", "redrive", poor)
    assert (code, lines) == (0, [f"{poor}  tried again, 1 behind it"])
    assert [customer for customer, _ in await told(shop, 4)] == ["c-poor"] * 2 + ["c-well"] * 2
    code, lines, _ = await operator(shop.shop, "dead", "drop", gone)
    assert (code, lines[0].split()[0], lines[0].split()[-2:]) == (0, gone, ["is", "lost"])
    # Of the one that was given up only the later event is told.
    assert len([c for c, _ in await told(shop, 5) if c == "c-gone"]) == 1
    assert await operator(shop.shop, "dead") == (0, [], "")
    code, lines, err = await operator(shop.shop, "dead", "redrive", gone)
    assert (code, lines, err) == (1, [], f"{gone}  there is no dead letter {gone!r}\n")


# Enough for JetStream's own requests and most events, not for one about a customer of this name.
MOST_BYTES = 780
LONG = "\N{SLICE OF PIZZA}" * 128


async def test_an_event_that_the_broker_will_not_have_is_the_operators_too(
    closed_shop: Shop, tmp_path: Path
) -> None:
    """Both events about one order are held; the other orders are told of."""
    (tmp_path / "nats").mkdir()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        broker = await enter(started("nats", tmp_path / "nats"))
        await broker.kill()
        broker.allow(MOST_BYTES)  # type: ignore[attr-defined]
        await broker.start()
        closed_shop.bus = from_url(broker.url)
        stock, till = await enter(closed_shop.inventory()), await enter(closed_shop.payments())
        book, post = await enter(closed_shop.orders()), await enter(closed_shop.notifications())
        shop = Open(closed_shop, book, stock, till, post)
        for customer in (LONG, "c-well"):
            await book.CreateOrder(asking(("mug", 1), customer=customer))
        assert {customer for customer, _ in await told(shop, 2)} == {"c-well"}
        async with asyncio.timeout(30):
            while True:
                code, lines, _ = await operator(closed_shop, "dead", "--service=orders")
                if lines and "1 behind it" in lines[0]:
                    break
        assert (code, len(lines)) == (0, 1)
        name = lines[0].split()[0]
        assert name.startswith("relay:bus/orders/")
        assert f"bytes are more than max_payload, {MOST_BYTES}" in lines[0]

        await broker.kill()
        broker.allow(1024 * 1024)  # type: ignore[attr-defined]
        await broker.start()
        code, lines, _ = await operator(closed_shop, "dead", "redrive", "--all", "--service=orders")
        assert (code, lines) == (0, [f"{name}  tried again, 1 behind it"])
        assert [customer for customer, _ in await told(shop, 4)].count(LONG) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dead", "bury", "x"), "'bury' is not one of list, show, redrive, drop"),
        (("dead", "drop"), "drop needs ids"),
        (("dead", "redrive"), "redrive needs ids, or --all"),
        (("dead", "show", "x"), "'x' is not CONSUMER/SOURCE/POSITION"),
        (("dead", "show", "a/b/1"), "NOT_FOUND: there is no dead letter 'a/b/1'"),
        (("dead", "--service=nobody"), "UNAVAILABLE"),
    ],
)
async def test_what_an_operator_gets_wrong_is_one_line_and_exit_code_2(
    shop: Open, words: tuple[str, ...], said: str
) -> None:
    code, lines, err = await operator(shop.shop, *words)

    assert (code, lines, err.count("\n")) == (2, [], 1)
    assert err.startswith("operator: ")
    assert said in err


async def test_customers_have_no_part_in_it(guarded) -> None:
    from tests.services.guarding import as_

    async with guarded.channel("notifications") as channel:
        listing = DeadLetterAdminStub(channel).ListDeadLetters
        request = ListDeadLettersRequest()
        code, reason, _ = await refused(listing(request, metadata=as_("ada")))
        found = await listing(request, metadata=as_("boss"))

    assert (code, reason) == ("PERMISSION_DENIED", "NOT_FOR_CUSTOMERS")
    assert list(found.dead_letters) == []
