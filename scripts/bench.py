"""
What the column costs a call, beside bare grpc channels in the same run: a table for the README.

    scripts/bench [--seconds 24] [--json]
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
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.measuring import callgrind, echo
from scripts.measuring.blocks import CLIENTS, Client
from scripts.measuring.instructions import Counter
from scripts.measuring.table import Column, table

CONCURRENCIES = (1, 64)
BLOCK_SECONDS = 0.1
WARM_SECONDS = 0.2
# Under callgrind: so many calls a block, so many blocks of each, the first of which only warms up.
CALLS = {1: 60, 64: 128}
ROUNDS = 3
PASS_SECONDS = 300.0
# Per concurrency ("1") and variant, what each block took per call.
Found = dict[str, dict[str, list[float]]]


def measure(client: Client, seconds: float, used: Callable[[], float]) -> Found:
    """Blocks by time, shuffled, read from a counter."""
    found: Found = {}
    for name in client.names:
        client.for_seconds(name, 8, WARM_SECONDS)
    for concurrency in CONCURRENCIES:
        blocks: dict[str, list[float]] = {name: [] for name in client.names}
        ends = time.monotonic() + seconds / len(CONCURRENCIES)
        while time.monotonic() < ends:
            for name in random.sample(client.names, len(blocks)):
                before = used()
                calls = client.for_seconds(name, concurrency, BLOCK_SECONDS)
                blocks[name].append((used() - before) / calls)
        found[str(concurrency)] = blocks
    return found


def mark_blocks(client: Client) -> list[tuple[int, str]]:
    """Blocks by calls, between marks for callgrind: how many at once and who, in their order."""
    blocks = [
        (concurrency, name)
        for concurrency in CONCURRENCIES
        for _ in range(ROUNDS)
        for name in client.names
    ]
    for concurrency, name in blocks:
        # What others left behind is not for this block to collect.
        gc.collect()
        callgrind.mark()
        client.for_calls(name, concurrency, CALLS[concurrency])
        callgrind.mark()
    return blocks


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def work(what: str, kind: str, ports: list[int], seconds: float) -> int:
    """One pass in this process, its findings as JSON on standard output."""
    if what == "serve":
        _pin(1)
        asyncio.run(echo.serve())
        return 0
    _pin(0)
    found: Any
    if what == "count":
        # Opened before grpc starts its threads, or these would not be counted.
        with Counter() as counter, CLIENTS[kind](ports) as client:
            found = measure(client, seconds, lambda: counter.read() / 1e3)
    else:
        with CLIENTS[kind](ports) as client:
            if what == "cpu":
                found = measure(client, seconds, lambda: time.process_time() * 1e6)
            else:
                found = mark_blocks(client)
    json.dump(found, sys.stdout)
    return 0


def _program(what: str, kind: str = "", ports: str = "", seconds: float = 0.0) -> list[str]:
    program = [sys.executable, "-m", "scripts.bench", "--work", what, "--kind", kind]
    return [*program, "--ports", ports, "--seconds", str(seconds)]


def _run(program: list[str], seconds: float) -> Any:
    """What a pass in a process of its own found; None where it failed."""
    done = subprocess.run(program, stdout=subprocess.PIPE, check=False, timeout=seconds)
    return json.loads(done.stdout) if done.returncode == 0 else None


def _callgrind(kind: str, ports: str) -> Found | None:
    with TemporaryDirectory() as folder:
        program = callgrind.command(_program("callgrind", kind, ports), Path(folder))
        blocks = _run(program, PASS_SECONDS)
        counts = callgrind.counts(Path(folder), len(blocks)) if blocks else []
    found: Found = {}
    for (concurrency, name), count in zip(blocks or (), counts, strict=False):
        taken = found.setdefault(str(concurrency), {}).setdefault(name, [])
        taken.append(count / CALLS[concurrency] / 1e3)
    # The first round only warmed up.
    return {n: {name: took[1:] for name, took in each.items()} for n, each in found.items()} or None


def columns(kind: str, ports: str, seconds: float) -> list[Column]:
    """What a call costs a kind of client: CPU, and instructions by whatever counts them here."""
    taken = {"CPU us": _run(_program("cpu", kind, ports, seconds), seconds * 3 + 60)}
    if Counter.allowed():
        counted = _run(_program("count", kind, ports, seconds), seconds * 3 + 60)
        taken["1000 instructions"] = counted
    elif callgrind.allowed():
        taken["1000 instructions in user space"] = _callgrind(kind, ports)
    return [
        Column(unit, int(concurrency), blocks)
        for unit, found in taken.items()
        for concurrency, blocks in (found or {}).items()
    ]


def main(arguments: list[str]) -> int:
    if "--gateway" in arguments:
        from scripts.measuring import gateway  # noqa: PLC0415 - not beside a column that is measured

        return gateway.main([option for option in arguments if option != "--gateway"])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=24.0, help="of the passes that take CPU")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    parser.add_argument("--discovery", action="store_true", help="measure discovery instead")
    parser.add_argument("--gateway", action="store_true", help="measure the gateway instead")
    kinds = ("serve", "cpu", "count", "callgrind")
    parser.add_argument("--work", choices=kinds, help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="", help=argparse.SUPPRESS)
    parser.add_argument("--ports", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.discovery:
        from scripts.measuring import discovery  # noqa: PLC0415 - not beside a column that is measured

        return discovery.main(["--json"] if asked.json else [])
    if asked.work:
        ports = [int(port) for port in asked.ports.split()]
        return work(asked.work, asked.kind, ports, asked.seconds)
    with subprocess.Popen(
        _program("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        where = server.stdout.readline().strip()
        said = {kind: columns(kind, where, asked.seconds / len(CLIENTS)) for kind in CLIENTS}
        server.stdin.close()
    for kind, found in said.items():
        print(f"\n{table(f'a unary call, {kind}', found)}")
    if not all(any("instr" in column.unit for column in found) for found in said.values()):
        print("\nbench: neither this host nor valgrind counts instructions for us; CPU only")
    if asked.json:
        data = {kind: [column.data() for column in found] for kind, found in said.items()}
        print(json.dumps(data, indent=2))
    return 0 if all(said.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
