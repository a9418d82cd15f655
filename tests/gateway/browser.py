"""
A real Chromium without a window, told what to do by the DevTools protocol.

No driver stands between: it is a WebSocket that takes JSON.  Names of other hosts are not resolved,
so that a page which needs one fails here as it would without a network.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--remote-debugging-port=0", "--disable-dev-shm-usage", "--window-size=1280,1600"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SECONDS = 60.0


class Page:
    """A page that is open: what it asked for, and what went wrong in it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requested: list[str] = []
        self.errors: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def listen(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._waiting.pop(event["id"]).set_result(event)
            elif event["method"] == "Network.requestWillBeSent":
                self.requested.append(event["params"]["request"]["url"])
            elif event["method"] == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(event["params"]["exceptionDetails"]))
            elif (
                event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error"
            ):
                self.errors.append(event["params"]["entry"]["text"])

    async def tell(self, method: str, **parameters: Any) -> Any:
        """One command and its result."""
        number = next(self._numbers)
        done = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(done, SECONDS)
        assert "error" not in answer, answer
        return answer["result"]

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until the expression is something, and say what."""
        async with asyncio.timeout(SECONDS):
            while not (value := await self.run(script)):
                await asyncio.sleep(0.05)
        return value

    async def click(self, selector: str) -> None:
        shown = json.dumps(selector)
        await self.until(f"document.querySelector({shown}) !== null")
        await self.run(f"document.querySelector({shown}).click()")

    async def write(self, selector: str, text: str) -> None:
        """Type into a field, as a keyboard does, and leave it."""
        shown = json.dumps(selector)
        await self.until(f"document.querySelector({shown}) !== null")
        await self.run(f"document.querySelector({shown}).focus()")
        await self.tell("Input.insertText", text=text)
        await self.run("document.activeElement.blur()")

    async def picture(self, path: Path) -> None:
        shot = await self.tell("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def page(program: Path, folder: Path, url: str) -> AsyncIterator[Page]:
    """The page at `url`, in a browser of its own."""
    browser = await asyncio.create_subprocess_exec(
        *(str(program), *OPTIONS, f"--user-data-dir={folder}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as http:
            address = await _debugged(http, folder / "DevToolsActivePort")
            async with http.ws_connect(address, max_msg_size=0) as socket:
                made = Page(socket)
                listening = asyncio.ensure_future(made.listen())
                for domain in ("Network", "Runtime", "Log", "Page"):
                    await made.tell(f"{domain}.enable")
                await made.tell("Page.navigate", url=url)
                yield made
                listening.cancel()
    finally:
        if browser.returncode is None:
            browser.kill()
        await browser.wait()


async def _debugged(http: aiohttp.ClientSession, file: Path) -> str:
    """The WebSocket of the browser's first page, once it says where it listens."""
    async with asyncio.timeout(SECONDS):
        while not (file.exists() and file.read_text()):
            await asyncio.sleep(0.05)
        port = file.read_text().split()[0]
        while True:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as response:
                targets = [each for each in await response.json() if each["type"] == "page"]
            if targets:
                return str(targets[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)
