"""/docs: no other host, nothing inline, and a browser that opens, expands and executes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scripts import parts
from tests.gateway.browser import page

CHROMIUM = parts.find("chromium")


async def test_the_page_loads_only_files_of_this_gateway(shop: Any) -> None:
    status, text, headers = await shop.ask("GET", "/docs")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', text)

    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert not re.search(r"<script>|<style|style=|\son\w+=", text)
    assert len(loaded) == 4
    for path in loaded:
        assert path.startswith("/docs/")
        assert (await shop.ask("GET", path))[0] == 200


async def test_the_page_names_every_operation_without_a_script(shop: Any) -> None:
    _, text, _ = await shop.ask("GET", "/docs")

    assert "<code>/v1/orders/{order_id}:cancel</code>" in text


async def test_a_file_that_the_browser_has_is_304(shop: Any) -> None:
    _, _, headers = await shop.ask("GET", "/docs/start.js")
    tagged = {"If-None-Match": headers["etag"]}

    assert (await shop.ask("GET", "/docs/start.js", headers=tagged))[0] == 304


@pytest.mark.parametrize("path", ["/docs/LICENSE", "/docs/", "/docs/../openapi.py", "/docs/x.js"])
async def test_no_other_file_is_served(shop: Any, path: str) -> None:
    assert (await shop.ask("GET", path))[0] == 404


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: scripts/parts chromium, or apt-get")
async def test_chromium_opens_expands_executes_and_sees_200(shop: Any, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    operation = "#operations-OrderService-OrderService_GetOrder"
    async with page(CHROMIUM, tmp_path / "profile", f"{shop.url}/docs") as docs:
        await docs.click(f"{operation} .opblock-summary-control")
        await docs.click(f"{operation} .try-out__btn")
        await docs.write(f"{operation} tr[data-param-name=order_id] input", "o-7")
        await docs.click(f"{operation} .execute")
        row = f"document.querySelector('{operation} .live-responses-table tr.response')"
        said = await docs.until(f"({row} || {{}}).innerText")
        await docs.run(f"document.querySelector('{operation}').scrollIntoView()")
        await docs.picture(tmp_path / "docs.png")

    assert said.split()[0] == "200"
    assert '"orderId": "o-7"' in said
    assert docs.errors == []
    assert all(url.startswith((shop.url, "data:", "blob:")) for url in docs.requested)
    assert f"{shop.url}/v1/orders/o-7" in docs.requested
    assert shop.orders.calls[-1].order_id == "o-7"
