"""Several processes on one port: one standing, one window, one abort."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

import discovery
from discovery.agent import Agent
from scripts.stage.preflight import free_port
from tests.gateway.scripted import running
from tests.gateway.test_gateway_process import process, refusal
from tests.gateway.test_gateway_workers import LINUX
from tests.strangler.town import NewShop, OldShop, document, old_shop


async def asked(url: str, times: int) -> Counter[tuple[int, str]]:
    """Statuses and sides of so many requests, each on a connection of its own."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        found: Counter[tuple[int, str]] = Counter()
        for _ in range(times):
            async with http.get(f"{url}/v1/products/mug", headers={"X-Customer-Id": "a"}) as answer:
                found[answer.status, answer.headers.get("x-served-by", "")] += 1
        return found


async def until_all(url: str, expected: tuple[int, str]) -> None:
    async with asyncio.timeout(30):
        while await asked(url, 16) != Counter({expected: 16}):
            await asyncio.sleep(0.05)


@LINUX
async def test_workers_move_together_and_turn_back_together(tmp_path: Path) -> None:
    old, new = OldShop(), NewShop()
    file = tmp_path / "strangler.json"
    admin = free_port()
    abort = {"minimumCalls": 30, "errorRate": 0.5}
    async with (
        old_shop(old) as old_url,
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "inventory", new),
        aiohttp.ClientSession() as http,
    ):
        file.write_text(json.dumps(document(old_url, percent=0, abort=abort)))
        environ = {
            "MESH_REGISTRY": agent.url,
            "GATEWAY_STRANGLER": str(file),
            "GATEWAY_ADMIN_PORT": str(admin),
        }
        async with process("--workers", "3", **environ) as child:
            assert child.stdout is not None
            line = (await asyncio.wait_for(child.stdout.readline(), 60)).decode()
            url, operators = line.split()[-1], f"http://127.0.0.1:{admin}/admin/strangler"
            await until_all(url, (200, "legacy"))

            async def report() -> Any:
                async with http.get(operators) as response:
                    return (await response.json())["routes"][0]

            async with http.post(operators, json={"route": "products", "percent": 100}) as response:
                assert response.status == 200
            await until_all(url, (200, "new"))

            new.status = 500
            failures = 0
            async with asyncio.timeout(30):
                while (await report())["mode"] != "aborted":
                    failures += (await asked(url, 5)).get((500, ""), 0)
            shown = await report()
            async with http.get(f"http://127.0.0.1:{admin}/metrics") as response:
                measured = await response.text()
            await until_all(url, (200, "legacy"))
            child.terminate()
            await asyncio.wait_for(child.communicate(), 30)

    # Together they saw enough; each alone would have waited for 30 calls of its own.
    assert failures < 80
    assert "calls failed" in shown["reason"]
    # Counted in three processes, shown by one: added up in the report, side by side in /metrics.
    assert shown["requests"]["new"]["failed"] >= failures
    workers = re.findall(r'gateway_strangler_percent\{route="products",worker="(\d)"\} ', measured)
    assert sorted(workers) == ["0", "1", "2"]
    assert 'gateway_strangler_aborted{route="products",worker="0"} 1.0' in measured
    state = json.loads(file.with_name("strangler.json.state").read_text())
    assert state["products"]["mode"] == "aborted"


async def test_a_strangler_that_cannot_be_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "strangler.json"
    missing = await refusal(MESH_REGISTRY="memory://x", GATEWAY_STRANGLER=str(file))
    file.write_text("{}")
    nowhere = await refusal(
        "--workers",
        "2",
        MESH_REGISTRY="memory://x",
        GATEWAY_STRANGLER=str(file),
        GATEWAY_STRANGLER_STATE=str(tmp_path / "no" / "state"),
    )

    for code, errors in (missing, nowhere):
        assert (code, errors.count("\n")) == (2, 1), errors
        assert "GATEWAY_STRANGLER" in errors
