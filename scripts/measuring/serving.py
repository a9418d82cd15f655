"""A service as a process of its own, for as long as a measurement lasts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from scripts.environment import ROOT

TETHER = ROOT / "scripts" / "stage" / "tether.py"


@asynccontextmanager
async def serving(
    service: str,
    port: int,
    folder: Path,
    environment: Mapping[str, str],
    wrapper: Sequence[str] = (),
) -> AsyncIterator[Process]:
    """One instance, run by the wrapper if there is one; what it says is in the folder."""
    with (folder / f"{service}.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(TETHER), str(os.getpid())),
            *wrapper,
            *(sys.executable, "-P", "-m", f"services.{service}", f"--port={port}"),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the wrapper, and what it runs
        await process.wait()
