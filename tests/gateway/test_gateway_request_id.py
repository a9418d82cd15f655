"""X-Request-Id: one id in the call, in every answer and in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

import discovery
from discovery.agent import Agent
from gateway.request_id import InLog, Named, made_up, settled
from tests.gateway.scripted import Orders, running, until
from tests.gateway.test_gateway_process import process, ready
from tests.strangler.town import strangled

SOCKET = "/v1/notifications:subscribe"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.mark.parametrize("value", [b"r", b"a" * 128, b"3f.A_z-9"])
def test_an_id_that_can_be_trusted_is_kept(value: bytes) -> None:
    headers = [(b"host", b"x"), (b"x-request-id", value)]

    assert settled(headers) == (value, headers)


@pytest.mark.parametrize(
    "values",
    [(), (b"",), (b"a" * 129,), (b"a b",), (b"a\n",), (b"\xe9",), (b"a/b",), (b"[",), (b"a", b"b")],
)
def test_any_other_is_replaced_by_one_made_up(values: tuple[bytes, ...]) -> None:
    made, headers = settled([(b"host", b"x"), *((b"x-request-id", value) for value in values)])

    assert UUID4.fullmatch(made.decode())
    assert headers == [(b"host", b"x"), (b"x-request-id", made)]


def test_what_is_made_up_are_random_uuids_of_version_4() -> None:
    made = {made_up().decode() for _ in range(1000)}

    assert len(made) == 1000
    assert {(uuid.UUID(text).version, str(uuid.UUID(text)) == text) for text in made} == {(4, True)}
    assert {uuid.UUID(text).variant for text in made} == {uuid.RFC_4122}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/orders/o-1", 200),
        ("/v1/orders/missing", 404),
        ("/v1/orders/o-1/summary", 200),
        ("/v1/orders/o-1:watch", 200),
        ("/v1/orders?page_size=x", 400),
        ("/v1/orders/o-1?x=1", 400),
        ("/nowhere", 404),
        ("/healthz", 200),
        ("/openapi.json", 200),
    ],
)
async def test_every_answer_names_its_request(shop: Any, path: str, status: int) -> None:
    got, _, named = await shop.ask("GET", path, headers={"X-Request-Id": "r-1"})
    _, _, unnamed = await shop.ask("GET", path)

    assert (got, named.getall("x-request-id")) == (status, ["r-1"])
    assert UUID4.fullmatch(unnamed["x-request-id"])


@pytest.mark.parametrize("path", ["/v1/orders/o-1", "/v1/orders/o-1/summary"])
async def test_the_service_and_the_client_are_told_the_same(shop: Any, path: str) -> None:
    for headers in ({}, {"X-Request-Id": "not/trusted"}, {"X-Request-Id": "x" * 129}):
        _, _, told = await shop.ask("GET", path, headers=headers)

        assert shop.orders.metadata[-1]["x-request-id"] == told["x-request-id"]
        assert UUID4.fullmatch(told["x-request-id"])


async def test_a_websocket_is_answered_like_any_whether_it_opens_or_not(shop: Any) -> None:
    headers = {"X-Request-Id": "r-1"}
    async with shop.http.ws_connect(shop.url + SOCKET, headers=headers) as socket:
        assert socket._response.headers.getall("x-request-id") == ["r-1"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await shop.http.ws_connect(shop.url + "/nowhere", headers=headers)

    assert refused.value.headers is not None
    assert refused.value.headers.getall("x-request-id") == ["r-1"]


@contextmanager
def logged() -> Iterator[list[tuple[str, str]]]:
    """(request, message) of everything that is logged meanwhile."""
    found: list[tuple[str, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append((record.request, record.getMessage()))  # type: ignore[method-assign,attr-defined]
    handler.addFilter(InLog())
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)


async def test_requests_side_by_side_are_told_apart_in_the_log(shop: Any) -> None:
    async def fail(name: str) -> None:
        await shop.ask("GET", f"/v1/orders/UNKNOWN~{name}", headers={"X-Request-Id": name})

    names = [f"r-{number}" for number in range(30)]
    with logged() as lines:
        await asyncio.gather(*map(fail, names))

    told = {(request, line.rpartition(": ")[2]) for request, line in lines if "UNKNOWN" in line}
    assert told == {(f" [{name}]", name) for name in names}


async def test_what_a_request_leaves_behind_is_no_longer_of_it() -> None:
    over = asyncio.Event()

    async def connection() -> None:
        logging.getLogger("gateway").error("while")
        await over.wait()
        logging.getLogger("gateway").error("after")

    with logged() as lines:
        with Named(b"r-1"):
            task = asyncio.create_task(connection())
            await asyncio.sleep(0)
        over.set()
        await task

    assert lines == [(" [r-1]", "while"), ("", "after")]


async def test_the_gateway_s_own_lines_name_the_request() -> None:
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", Orders()),
        process(MESH_REGISTRY=agent.url) as child,
        aiohttp.ClientSession() as http,
    ):
        assert child.stdout is not None
        url = (await asyncio.wait_for(child.stdout.readline(), 20)).decode().split()[-1]
        await ready(http, url)
        headers = {"X-Request-Id": "r-1"}
        async with http.get(f"{url}/v1/orders/UNKNOWN~why", headers=headers) as answer:
            assert answer.status == 500
        child.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(child.communicate(), 20)

    assert re.search(rb"^WARNING gateway\.status \[r-1\] .*why$", errors, re.MULTILINE), errors


async def test_the_old_side_and_its_shadow_are_told_the_same_id(
    request: pytest.FixtureRequest,
) -> None:
    async with strangled(request.node.nodeid, percent=0, shadow={}) as town:
        url = f"{town.url}/v1/products/mug"
        async with town.http.get(url) as made, town.http.post(f"{town.url}/v1/vouchers") as other:
            told, others = made.headers.getall("x-request-id"), other.headers.getall("x-request-id")
        await until(lambda: bool(town.new.seen))

    assert (len(told), len(others)) == (1, 1)
    assert [{k.lower(): v for k, v in seen.items()}["x-request-id"] for seen in town.old.seen] == [
        *told,
        *others,
    ]
    assert town.new.seen[0]["x-request-id"] == told[0]
    assert UUID4.fullmatch(told[0])
