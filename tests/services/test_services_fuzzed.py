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
from hashlib import sha256
from pathlib import Path

import pytest

from gateway import Gateway
from gateway.guard import Guard
from gateway.keys import ApiKeys
from services.edge.pages import pages

KEY = "k-of-the-fuzzer"
ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.mark.skipif(not PROGRAM.exists(), reason="needs schemathesis, a development dependency")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "options",
    [
        ("--phases=coverage,fuzzing", "--max-examples=3", "--seed=1"),
        pytest.param(("--max-examples=100",), marks=pytest.mark.slow, id="long"),
        # Who must say who it is: that nobody is let in who does not is one of the checks.
        pytest.param(("--max-examples=20", KEY), marks=pytest.mark.slow, id="guarded"),
    ],
)
async def test_schemathesis_finds_nothing(closed_shop, options, tmp_path):
    config, guard = ROOT / "schemathesis.toml", Guard()
    if KEY in options:
        guard = Guard(ApiKeys({sha256(KEY.encode()).hexdigest(): "fuzzer"}))
        said = f'\n[auth.openapi.api_keys]\napi_key = "{KEY}"\n'
        config = tmp_path / "schemathesis.toml"
        config.write_text((ROOT / config.name).read_text() + said)
        options = options[:-1]
    gateway = Gateway(closed_shop.registry, guard=guard)
    pages(gateway)
    async with gateway.serving(port=0) as url, AsyncExitStack() as stack:
        for service in ("inventory", "payments", "orders", "notifications"):
            await stack.enter_async_context(getattr(closed_shop, service)())
        async with asyncio.timeout(10):
            while len(gateway.app.catalog.services) < 4:
                await asyncio.sleep(0.01)
        said = await ran(config, f"{url}/openapi.json", *options)

    assert "No issues found" in said, said


async def ran(config: Path, location: str, *options: str) -> str:
    """Everything that schemathesis says."""
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), f"--config-file={config}", "run", location, "--checks=all"),
        *("--no-color", "--warnings=off", *options),
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
