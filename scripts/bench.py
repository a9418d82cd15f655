"""
What the column costs a call, beside a bare grpc.aio channel in the same run.

    scripts/bench [--seconds 20] [--json]
    scripts/bench --discovery [--json]      discovery at scale and beside Consul, instead
    scripts/bench --gateway [--json]        a request at the gateway, beside other ways, instead

The calling process runs alone on the first core, the echo server on the second.  All variants live
in one process and take turns in short blocks, shuffled anew each cycle; a ratio is the median of
its cycles' ratios to the bare channel, so that a host that slows down slows all alike.  CPU and
instructions are taken in separate passes: counting makes context switches dear.  Instructions are
counted by the CPU where the host lets us, else in user space by callgrind where valgrind is there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.measuring import callgrind, echo
from scripts.measuring.echo import BARE, Say
from scripts.measuring.instructions import Counter

CONCURRENCIES = (1, 64)
BLOCK_SECONDS = 0.1
WARM_SECONDS = 0.2
# Under callgrind: so many calls a block, so many blocks of each.
CALLS = 200
ROUNDS = 3
# Per concurrency ("c1") and variant, what each block took per call.
Found = dict[str, dict[str, list[float]]]


async def measure(ports: list[int], seconds: float, used: Callable[[], float]) -> Found:
    """Blocks by time, shuffled, read from a counter."""
    found: Found = {}
    async with AsyncExitStack() as stack:
        says = await echo.variants(stack, ports)
        for say in says.values():
            await _for_seconds(say, 8, WARM_SECONDS)
        for concurrency in CONCURRENCIES:
            blocks: dict[str, list[float]] = {name: [] for name in says}
            ends = time.monotonic() + seconds / len(CONCURRENCIES)
            while time.monotonic() < ends:
                for name in random.sample(list(says), len(says)):
                    before = used()
                    calls = await _for_seconds(says[name], concurrency, BLOCK_SECONDS)
                    blocks[name].append((used() - before) / calls)
            found[f"c{concurrency}"] = blocks
    return found


async def mark_blocks(ports: list[int]) -> list[str]:
    """Blocks by calls, between marks for callgrind; whose they were, in their order."""
    blocks: list[str] = []
    async with AsyncExitStack() as stack:
        says = await echo.variants(stack, ports)
        for name, say in [*says.items(), *(list(says.items()) * ROUNDS)]:
            # What others left behind is not for this block to collect.
            gc.collect()
            callgrind.mark()
            # One at a time: on an emulated CPU, who shares a turn of the loop is no measure.
            for _ in range(CALLS):
                await say()
            callgrind.mark()
            blocks.append(name)
    return blocks


async def _for_seconds(say: Say, concurrency: int, seconds: float) -> int:
    calls, ends = 0, time.monotonic() + seconds

    async def caller() -> None:
        nonlocal calls
        while time.monotonic() < ends:
            await say()
            calls += 1

    if concurrency == 1:
        await caller()
    else:
        await asyncio.gather(*(caller() for _ in range(concurrency)))
    return calls


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def work(what: str, ports: list[int], seconds: float) -> int:
    """One pass in this process, its findings as JSON on standard output."""
    if what == "serve":
        _pin(1)
        asyncio.run(echo.serve())
        return 0
    _pin(0)
    found: Any
    if what == "cpu":
        found = asyncio.run(measure(ports, seconds, lambda: time.process_time() * 1e6))
    elif what == "count":
        # Opened before grpc starts its threads, or these would not be counted.
        with Counter() as counter:
            found = asyncio.run(measure(ports, seconds, lambda: counter.read() / 1e3))
    else:
        found = asyncio.run(mark_blocks(ports))
    json.dump(found, sys.stdout)
    return 0


def report(unit: str, found: Found) -> dict[str, Any]:
    """Print one table; what it says, as data."""
    said: dict[str, Any] = {}
    for concurrency, blocks in found.items():
        print(f"\n{unit} per call, {concurrency[1:]} in flight")
        for name, values in blocks.items():
            ratios = [value / bare for value, bare in zip(values, blocks[BARE], strict=True)]
            ratio, median = statistics.median(ratios), statistics.median(values)
            low, high = min(ratios), max(ratios)
            if len(ratios) > 3:
                low, _, high = statistics.quantiles(ratios, n=4)
            print(f"  {name:32} {median:8.1f}   x {ratio:.3f}  ({low:.3f} to {high:.3f})")
            said.setdefault(concurrency, {})[name] = {"median": median, "ratio": ratio}
    return said


def _program(what: str, ports: str = "", seconds: float = 0.0) -> list[str]:
    program = [sys.executable, "-m", "scripts.bench", "--work", what]
    return [*program, "--ports", ports, "--seconds", str(seconds)]


def _run(program: list[str], seconds: float) -> Any:
    """What a pass in a process of its own found; None where it failed."""
    done = subprocess.run(program, stdout=subprocess.PIPE, check=False, timeout=seconds)
    return json.loads(done.stdout) if done.returncode == 0 else None


def _callgrind(ports: str) -> Found | None:
    with TemporaryDirectory() as folder:
        program = callgrind.command(_program("callgrind", ports), Path(folder))
        blocks = _run(program, 600.0)
        counts = callgrind.counts(Path(folder), len(blocks)) if blocks else []
    found: dict[str, list[float]] = {}
    for name, count in zip(blocks or (), counts, strict=False):
        found.setdefault(name, []).append(count / CALLS / 1e3)
    # The first round only warms up.
    return {"c1": {name: values[1:] for name, values in found.items()}} if found else None


def passes(ports: str, seconds: float) -> dict[str, Any]:
    """CPU, and instructions by whatever counts them here; what was said of each."""
    said: dict[str, Any] = {}
    found = _run(_program("cpu", ports, seconds), seconds * 3 + 60)
    if found is not None:
        said["cpu"] = report("CPU us", found)
    if Counter.allowed():
        unit = "thousand instructions"
        found = _run(_program("count", ports, seconds), seconds * 3 + 60)
    else:
        unit = "thousand instructions in user space"
        found = _callgrind(ports) if callgrind.allowed() else None
    if found is not None:
        said["instructions"] = report(unit, found)
    else:
        print("\nbench: neither this host nor valgrind counts instructions for us; CPU only")
    return said


def main(arguments: list[str]) -> int:
    if "--gateway" in arguments:
        from scripts.measuring import gateway  # noqa: PLC0415 - not beside a column that is measured

        return gateway.main([option for option in arguments if option != "--gateway"])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of the pass that takes CPU")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    parser.add_argument("--discovery", action="store_true", help="measure discovery instead")
    parser.add_argument("--gateway", action="store_true", help="measure the gateway instead")
    kinds = ("serve", "cpu", "count", "callgrind")
    parser.add_argument("--work", choices=kinds, help=argparse.SUPPRESS)
    parser.add_argument("--ports", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.discovery:
        from scripts.measuring import discovery  # noqa: PLC0415 - not beside a column that is measured

        return discovery.main(["--json"] if asked.json else [])
    if asked.work:
        return work(asked.work, [int(port) for port in asked.ports.split()], asked.seconds)
    with subprocess.Popen(
        _program("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        said = passes(server.stdout.readline().strip(), asked.seconds)
        server.stdin.close()
    if asked.json:
        print(json.dumps(said, indent=2))
    return 0 if "cpu" in said else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
