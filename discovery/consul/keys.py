"""
A key of Consul's KV store, watched by blocking queries: its value now, and after every change.

An answer is not a change, an index that goes backwards starts again, and an agent that cannot be
asked says nothing: who follows a key keeps the value that it last had.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from random import Random
from urllib.parse import quote

from discovery.consul import schema
from discovery.consul.client import Answer, Client, Unreachable
from discovery.consul.watching import CHANGED_COST, UNCHANGED_COST
from discovery.pace import Backoff, Bucket

LOG = logging.getLogger(__name__)


async def watch_key(client: Client, key: str) -> AsyncIterator[bytes | None]:
    """The bytes of `key`, None while it is not there; for ever."""
    path = "/v1/kv/" + quote(key.strip("/"), safe="/")
    backoff, bucket, rng = Backoff(), Bucket(now=time.monotonic()), Random()
    index, told = 0, ""
    seen: list[bytes | None] = []
    while True:
        try:
            answer = await _ask(client, path, index)
            index = schema.index_after(index, answer.headers.get("X-Consul-Index"))
        except (Unreachable, schema.Malformed) as error:
            # Once for each kind of trouble, not once a try.
            if told != str(error):
                told = str(error)
                LOG.warning("%s%s: %s", client.settings.shown, path, told)
            index = 0
            await asyncio.sleep(backoff.failed(rng))
            continue
        backoff.succeeded()
        told = ""
        value = answer.body if answer.status == 200 else None
        changed = seen != [value]
        if changed:
            seen = [value]
            yield value
        delay = bucket.take(CHANGED_COST if changed else UNCHANGED_COST, time.monotonic())
        if delay:
            await asyncio.sleep(delay)


async def _ask(client: Client, path: str, index: int) -> Answer:
    settings = client.settings
    asked, seconds = [("raw", "")], settings.slack
    if index:
        asked += [("index", str(index)), ("wait", schema.duration(settings.wait))]
        # The agent may answer later than asked by a sixteenth of the wait.
        seconds += settings.wait * 17 / 16
    answer = await client.request("GET", path, asked, seconds=seconds, once=bool(index))
    if answer.status not in (200, 404):
        raise Unreachable(f"status {answer.status}: {answer.text}")
    return answer
