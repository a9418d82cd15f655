"""Both ways over a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

import discovery
from gateway.cors import Cors
from tests.gateway.scripted import Notifications, running, serving, until

PATH = "/v1/notifications:subscribe"


async def test_each_text_frame_is_one_message(shop: Any) -> None:
    async with shop.http.ws_connect(shop.url + PATH) as socket:
        for name in ("a", "b"):
            await socket.send_json({"customerId": name})
            answer = await asyncio.wait_for(socket.receive_json(), 5)
            assert answer["customerId"] == name


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"customerId": "nobody"}', 4005),
        ('{"nope": 1}', 4003),
        ("[", 4003),
        (b"\x00", 1003),
    ],
)
async def test_a_status_is_the_close_code(shop: Any, frame: str | bytes, code: int) -> None:
    async with shop.http.ws_connect(shop.url + PATH) as socket:
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        message = await asyncio.wait_for(socket.receive(), 5)

        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, code)


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/orders", 400), ("/nowhere", 404), (PATH + "?x=1", 400)]
)
async def test_what_is_no_socket_answers_as_http(shop: Any, path: str, status: int) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await shop.http.ws_connect(shop.url + path)

    assert caught.value.status == status


async def test_a_client_that_leaves_cancels_the_rpc(shop: Any) -> None:
    socket = await shop.http.ws_connect(shop.url + PATH)
    await socket.send_json({"customerId": "a"})
    await asyncio.wait_for(socket.receive_json(), 5)
    await socket.close()

    await asyncio.wait_for(shop.notifications.left.wait(), 5)


@pytest.mark.parametrize(
    ("origin", "allowed", "opened"),
    [
        ("{url}", (), True),
        ("https://shop.example", (), False),
        ("https://shop.example", ("https://shop.example",), True),
        ("https://shop.example", ("*",), True),
        ("null", (), False),
    ],
)
async def test_a_page_of_another_origin_opens_no_socket_unless_cors_lets_it(
    request: pytest.FixtureRequest, origin: str, allowed: tuple[str, ...], opened: bool
) -> None:
    """Browsers ask nobody before they open a WebSocket: the Origin is all there is."""
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "notifications", Notifications()),
        serving(registry, cors=Cors(allowed)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "A" * 22 + "==",
            "Origin": origin.format(url=url),
        }
        async with http.get(url + PATH, headers=headers) as response:
            assert response.status == (101 if opened else 403)


async def test_a_message_over_the_limit_closes_the_socket_with_1009(shop: Any) -> None:
    async with shop.http.ws_connect(shop.url + PATH) as socket:
        await socket.send_json({"customerId": "x" * (4 * 1024 * 1024)})
        message = await asyncio.wait_for(socket.receive(), 20)

        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_a_stopping_gateway_closes_its_sockets_and_says_so(
    request: pytest.FixtureRequest,
) -> None:
    notifications = Notifications()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "notifications", notifications),
        aiohttp.ClientSession() as http,
    ):
        async with serving(registry) as (gateway, url, _):
            await until(lambda: gateway.app.catalog.ready)
            socket = await http.ws_connect(url + PATH)
            await socket.send_json({"customerId": "a"})
            await asyncio.wait_for(socket.receive_json(), 5)
        message = await asyncio.wait_for(socket.receive(), 5)
        await asyncio.wait_for(notifications.left.wait(), 5)

    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4014)
    assert message.extra == "the gateway is stopping"
