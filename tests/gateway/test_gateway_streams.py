"""Streams of replies over real sockets, in the form that Accept names."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

import discovery
from tests.gateway.scripted import Orders, running, serving, until

WATCH = "/v1/orders/{}:watch"


async def watch(shop: Any, order_id: str, accept: str) -> tuple[int, str, str]:
    url = shop.url + WATCH.format(order_id)
    async with shop.http.get(url, headers={"Accept": accept}) as response:
        return response.status, response.content_type, await response.text()


async def test_an_array_is_the_default(shop: Any) -> None:
    status, media_type, text = await watch(shop, "o-1", "*/*")

    assert (status, media_type) == (200, "application/json")
    assert [order["note"] for order in json.loads(text)] == ["1", "2"]


async def test_an_empty_stream_is_an_empty_array(shop: Any) -> None:
    assert json.loads((await watch(shop, "empty", "application/json"))[2]) == []


async def test_ndjson_is_one_bare_message_a_line(shop: Any) -> None:
    status, media_type, text = await watch(shop, "o-1", "application/x-ndjson")

    assert (status, media_type) == (200, "application/x-ndjson")
    assert [json.loads(line)["note"] for line in text.splitlines()] == ["1", "2"]


async def test_events_are_data_lines(shop: Any) -> None:
    status, media_type, text = await watch(shop, "o-1", "text/event-stream")
    events = [event for event in text.split("\n\n") if event.startswith("data: ")]

    assert (status, media_type) == (200, "text/event-stream")
    assert [json.loads(event.removeprefix("data: "))["note"] for event in events] == ["1", "2"]


@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson", "text/event-stream"])
async def test_an_error_before_the_first_message_is_an_answer_of_its_own(
    shop: Any, accept: str
) -> None:
    # However slow this machine is, the first word must be the service's and not a ping.
    shop.gateway.app.limits = replace(shop.gateway.app.limits, ping_seconds=15.0)
    status, media_type, text = await watch(shop, "missing", accept)

    assert (status, media_type, json.loads(text)["code"]) == (404, "application/json", 5)


async def test_an_error_after_a_message_is_the_last_element(shop: Any) -> None:
    array = json.loads((await watch(shop, "breaks", "*/*"))[2])
    lines = (await watch(shop, "breaks", "application/x-ndjson"))[2].splitlines()
    events = (await watch(shop, "breaks", "text/event-stream"))[2].split("\n\n")

    assert [element.get("note") for element in array] == ["1", "2", None]
    assert array[-1]["error"] == json.loads(lines[-1])["error"]
    assert (array[-1]["error"]["code"], array[-1]["error"]["message"]) == (9, "broke")
    assert events[-2].startswith("event: error\ndata: {")


async def test_each_message_is_sent_at_once_and_silence_is_filled_with_pings(shop: Any) -> None:
    url = shop.url + WATCH.format("waits")
    async with shop.http.get(url, headers={"Accept": "text/event-stream"}) as response:
        first = b": ping"
        while first.startswith(b": ping"):  # a busy machine may be slower than the pings
            first = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5)
        silence = [await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5) for _ in range(2)]
        shop.orders.go.set()
        rest = await asyncio.wait_for(response.text(), 5)

    assert b'"note":"1"' in first
    assert silence == [b": ping\n\n"] * 2
    assert '"note":"2"' in rest


async def test_a_client_that_leaves_a_stream_cancels_the_rpc(shop: Any) -> None:
    url = shop.url + WATCH.format("waits")
    response = await shop.http.get(url, headers={"Accept": "application/x-ndjson"})
    await asyncio.wait_for(response.content.readline(), 5)
    started = asyncio.get_running_loop().time()
    response.close()

    await asyncio.wait_for(shop.orders.left.wait(), 5)

    assert asyncio.get_running_loop().time() - started < 1.0


async def test_head_of_a_stream_reads_no_message_of_it(shop: Any) -> None:
    async with shop.http.head(shop.url + WATCH.format("waits")) as response:
        assert response.status == 200
    await asyncio.wait_for(shop.orders.left.wait(), 5)


async def test_grpc_timeout_ends_a_stream_with_an_error_element(shop: Any) -> None:
    url = shop.url + WATCH.format("waits")
    async with shop.http.get(url, headers={"Grpc-Timeout": "200m"}) as response:
        elements = json.loads(await asyncio.wait_for(response.text(), 5))

    assert elements[-1]["error"]["code"] == 4


async def test_a_stopping_gateway_ends_its_streams_with_an_error_element(
    request: pytest.FixtureRequest,
) -> None:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        aiohttp.ClientSession() as http,
    ):
        async with serving(registry) as (gateway, url, _):
            await until(lambda: "orders" in gateway.app.catalog.services)
            response = await http.get(url + WATCH.format("waits"))
            await asyncio.wait_for(orders.entered.wait(), 5)
        elements = json.loads(await asyncio.wait_for(response.text(), 5))

    assert [elements[0]["note"], elements[1]["error"]["message"]] == [
        "1",
        "the gateway is stopping",
    ]
