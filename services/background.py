"""Work that runs beside a block: cancelled when the block ends, and its failure ends the block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run *work* while the block runs; an error of either leaves as it was raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(work)
            try:
                yield
            finally:
                running.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
