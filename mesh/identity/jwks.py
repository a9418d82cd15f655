"""
The keys that tokens are signed with (RFC 7517), from a file or a URL, and kept fresh.

    asked for a key -> known: at once; when the set is old it is read again beside the request
                    -> unknown: read it again first, at most every AGAIN_SECONDS

When it cannot be read again the last good set stays; with none at all nobody can be let in, which
is 503 and not 401.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from yarl import URL

log = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
AGAIN_SECONDS = 5.0
FETCH_SECONDS = 5.0
MOST_BYTES = 1024 * 1024


class JwksError(Exception):
    """The key set cannot be had."""


class Jwks:
    """One key set by where it is."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._url = URL(source) if "://" in source else None
        if self._url is not None and not _trusted(self._url):
            raise ValueError(f"{source!r} is neither https nor http on this host: it can be forged")
        self._keys: list[dict[str, Any]] = []
        self._read = self._tried = float("-inf")
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def keys(self, kid: str | None) -> list[dict[str, Any]]:
        """The keys with that id (all when None), read again first if that may help."""
        found = self._named(kid)
        if found:
            if monotonic() - max(self._read, self._tried) >= FRESH_SECONDS:
                self._tried = monotonic()
                self._refreshing = asyncio.create_task(self._again())
            return found
        async with self._lock:  # one reads, who came with it waits for the same answer
            if monotonic() - self._tried >= AGAIN_SECONDS:
                await self._again()
        if not self._keys:
            raise JwksError(f"no keys from {self.source}")
        return self._named(kid)

    def _named(self, kid: str | None) -> list[dict[str, Any]]:
        return [key for key in self._keys if kid is None or key.get("kid") == kid]

    async def _again(self) -> None:
        try:
            text = await (asyncio.to_thread(self._file) if self._url is None else self._fetch())
            keys = json.loads(text)["keys"]
            self._keys = [key for key in keys if key.get("use", "sig") == "sig"]
            self._read = monotonic()
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError, LookupError) as error:
            log.warning("the key set %s cannot be read: %s", self.source, error or "too slow")
        except (TypeError, AttributeError):
            log.warning("the key set %s is not one", self.source)
        finally:
            self._tried = monotonic()

    def _file(self) -> bytes:
        with Path(self.source).open("rb") as file:
            return file.read(MOST_BYTES)

    async def _fetch(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(str(self._url), allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise OSError(f"it answered {response.status}")
            return await _bounded(response)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    read = b""
    async for piece in response.content.iter_chunked(64 * 1024):
        read += piece
        if len(read) > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES} bytes")
    return read


def _trusted(url: URL) -> bool:
    if url.scheme == "https":
        return bool(url.host)
    host = url.host or ""
    if url.scheme != "http" or host == "localhost":
        return url.scheme == "http"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
