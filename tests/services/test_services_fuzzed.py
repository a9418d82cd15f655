"""
The shop's whole REST API under schemathesis, with every check that it has.

What the document allows is answered well or refused by the state alone; what it does not allow is
refused; statuses, headers, content types and bodies are the documented ones.  schemathesis.toml at
the root says what no schema can, so that the same command by hand is as clean:

    schemathesis run http://127.0.0.1:8080/openapi.json --checks all
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway import Gateway
from services.edge.pages import pages

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.mark.skipif(not PROGRAM.exists(), reason="needs schemathesis, a development dependency")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "options",
    [
        ("--phases=coverage,fuzzing", "--max-examples=3", "--seed=1"),
        pytest.param(("--max-examples=100",), marks=pytest.mark.slow, id="long"),
    ],
)
async def test_schemathesis_finds_nothing(closed_shop, options):
    gateway = Gateway(closed_shop.registry)
    pages(gateway)
    async with gateway.serving(port=0) as url, AsyncExitStack() as stack:
        for service in ("inventory", "payments", "orders", "notifications"):
            await stack.enter_async_context(getattr(closed_shop, service)())
        async with asyncio.timeout(10):
            while len(gateway.app.catalog.services) < 4:
                await asyncio.sleep(0.01)
        said = await ran(f"{url}/openapi.json", *options)

    assert "No issues found" in said, said


async def ran(location: str, *options: str) -> str:
    """Everything that schemathesis says."""
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "run", location, "--checks=all", "--no-color", "--warnings=off", *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode()
