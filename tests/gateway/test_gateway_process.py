"""`python -m gateway` as an operator meets it: its one line, its exit codes, how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

import discovery
from discovery.agent import Agent
from tests.gateway.scripted import Orders, running


@contextlib.asynccontextmanager
async def process(*arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GATEWAY_PORT": "0", **environ},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def refusal(*arguments: str, **environ: str) -> tuple[int | None, str]:
    async with process(*arguments, **environ) as child:
        _, errors = await asyncio.wait_for(child.communicate(), 20)
        return child.returncode, errors.decode()


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (("--port", "x"), {}, "not a number"),
        ((), {"GATEWAY_PORT": "99999"}, "not a number"),
        (("--pages", "no.such.module"), {}, "no.such.module"),
        (("--pages", "gateway.rule"), {}, "no attribute 'pages'"),
        ((), {"MESH_REGISTRY": "ftp://x"}, "ftp"),
        ((), {"GATEWAY_ADMIN_PORT": "x"}, "GATEWAY_ADMIN_PORT"),
    ],
)
async def test_what_it_cannot_do_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    code, errors = await refusal(*arguments, **{"MESH_REGISTRY": "memory://x", **environ})

    assert code == 2
    assert said in errors
    assert errors.count("\n") == 1


async def test_a_busy_port_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, errors = await refusal("--port", port, MESH_REGISTRY="memory://x")

    assert (code, errors.count("\n")) == (2, 1)
    assert f"127.0.0.1:{port}" in errors


async def test_sigterm_lets_the_request_being_served_end() -> None:
    orders = Orders()
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", orders),
        process(MESH_REGISTRY=agent.url) as child,
        aiohttp.ClientSession() as http,
    ):
        assert child.stdout is not None
        line = (await asyncio.wait_for(child.stdout.readline(), 20)).decode()
        url = line.split()[-1]
        await ready(http, url)
        slow = asyncio.ensure_future(_get(http, f"{url}/v1/orders/slow"))
        await asyncio.wait_for(orders.entered.wait(), 5)
        child.send_signal(signal.SIGTERM)
        await refused(url)
        orders.go.set()
        status, body = await asyncio.wait_for(slow, 5)
        code = await asyncio.wait_for(child.wait(), 10)

    assert (status, body["orderId"], code) == (200, "slow", 0)


async def _get(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as response:
        return response.status, await response.json()


async def ready(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(20):
        while (await _get(http, f"{url}/readyz"))[0] != 200:
            await asyncio.sleep(0.02)


async def refused(url: str) -> None:
    """Until no new connection is taken."""
    port = int(url.rsplit(":", 1)[1])
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it waited to be accepted in the moment of the close
                continue
            writer.close()
            await asyncio.sleep(0.02)
