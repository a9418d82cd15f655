"""Tells the story chapter by chapter; the first promise that is not kept ends it."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp
import grpc

from scripts.stage.running import Demo
from scripts.story.ledger import ledger
from scripts.story.rest import declined, errors, order, products, same_key, watching
from scripts.story.storm import storm
from scripts.story.stubs import grpcurl, notified, stubs
from scripts.story.visit import Visit, Wrong, expect, visiting

CHAPTER_SECONDS = 120.0
READY_SECONDS = 15.0
MOST_MEGABYTES = 500.0


async def ready(visit: Visit) -> str:
    demo, instances = visit.demo, len(visit.demo.addresses)
    said = f"after {demo.listening_seconds:.1f} s all listen, after {demo.seconds:.1f} s"
    expect(demo.seconds < READY_SECONDS, f"{said} all are well; promised is {READY_SECONDS:.0f} s")
    return f"{said} all {instances} instances and the gateway are healthy"


async def memory(visit: Visit) -> str:
    megabytes = visit.demo.megabytes()
    if megabytes is None:
        return "left out, this system does not tell PSS"
    expect(megabytes < MOST_MEGABYTES, f"{megabytes:.0f} MB, promised is {MOST_MEGABYTES:.0f}")
    return f"{megabytes:.0f} MB together (PSS), under {MOST_MEGABYTES:.0f}"


CHAPTERS = {
    "ready": ready,
    "memory": memory,
    "products": products,
    "an order": order,
    "the same key again": same_key,
    "a declined card": declined,
    "errors": errors,
    "watching an order": watching,
    "generated stubs": stubs,
    "notifications": notified,
    "grpcurl": grpcurl,
    "calls through crashes": storm,
    "conservation": ledger,
    "memory after it": memory,
}


async def tell(demo: Demo) -> int:
    """Tell every chapter, one line each; 0 when all promises were kept, else 1."""
    print(flush=True)
    began = time.monotonic()
    async with visiting(demo, os.environ) as visit:
        for title, chapter in CHAPTERS.items():
            try:
                async with asyncio.timeout(CHAPTER_SECONDS):
                    said = await chapter(visit)
            except (Wrong, TimeoutError, aiohttp.ClientError, grpc.aio.AioRpcError) as why:
                print(f"FAILED  {title}: {str(why) or type(why).__name__}", flush=True)
                return 1
            print(f"ok      {title}: {said}", flush=True)
    print(f"demo: the story holds, told in {time.monotonic() - began:.0f} s", flush=True)
    return 0
