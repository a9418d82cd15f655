"""/docs: no other host, nothing inline, and a browser that opens, expands and executes."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


async def test_the_page_loads_only_files_of_this_gateway(shop: Any) -> None:
    status, page, headers = await shop.ask("GET", "/docs")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)

    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert not re.search(r"<script>|<style|style=|\son\w+=", page)
    assert len(loaded) == 4
    for path in loaded:
        assert path.startswith("/docs/")
        assert (await shop.ask("GET", path))[0] == 200


async def test_the_page_names_every_operation_without_a_script(shop: Any) -> None:
    _, page, _ = await shop.ask("GET", "/docs")

    assert "<code>/v1/orders/{order_id}:cancel</code>" in page


async def test_a_file_that_the_browser_has_is_304(shop: Any) -> None:
    _, _, headers = await shop.ask("GET", "/docs/start.js")
    tagged = {"If-None-Match": headers["etag"]}

    assert (await shop.ask("GET", "/docs/start.js", headers=tagged))[0] == 304


@pytest.mark.parametrize("path", ["/docs/LICENSE", "/docs/", "/docs/../openapi.py", "/docs/x.js"])
async def test_no_other_file_is_served(shop: Any, path: str) -> None:
    assert (await shop.ask("GET", path))[0] == 404


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
async def test_chromium_opens_expands_executes_and_sees_200(shop: Any) -> None:
    driver = pytest.importorskip("playwright.async_api", reason="needs playwright")
    said: list[str] = []
    asked: list[str] = []
    async with driver.async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{shop.url}/docs")
        operation = page.locator("#operations-OrderService-OrderService_GetOrder")
        await operation.locator(".opblock-summary").click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.locator("tr[data-param-name=order_id] input").fill("o-7")
        await operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table tbody").first
        await driver.expect(answer).to_contain_text("200")
        text = await answer.inner_text()
        await browser.close()

    assert text.split()[0] == "200"
    assert '"orderId": "o-7"' in text
    assert [line for line in said if line.startswith("error")] == []
    assert all(url.startswith((shop.url, "data:", "blob:")) for url in asked), asked
    assert shop.orders.calls[-1].order_id == "o-7"
