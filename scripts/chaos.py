"""
Faults over real sockets, and what they cost callers: plain grpcio beside the mesh in the same run.

    scripts/chaos [TRIAL ...] [--seconds 5] [--calls 2000] [--tuned]

Each contender makes 150 calls a second to the same three server processes, reads that may be
repeated, with 2 s of patience each.  `plain` is grpcio's round_robin over the same addresses,
`tuned` has grpcio's own retries (three attempts on UNAVAILABLE) as well.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from scripts.trials import network, servers
from scripts.trials.load import Figures
from scripts.trials.outage import Outage, one_hop, three_hops
from scripts.trials.panel import Mood
from scripts.trials.stage import CONTENDERS, Stage

Trial = Callable[[argparse.Namespace, Sequence[str]], AbstractAsyncContextManager[Stage]]
TRIALS: dict[str, tuple[str, Trial]] = {
    "hung": (
        "one of three is stopped by SIGSTOP",
        lambda asked, who: servers.hung(2 * asked.seconds, contenders=who),
    ),
    "hung-writes": (
        "the same, calls that may not be repeated",
        lambda asked, who: servers.hung(2 * asked.seconds, writes=True, contenders=who),
    ),
    "stalled": (
        "all three stop for 0.7 s, three times",
        lambda asked, who: servers.stalled(contenders=who),
    ),
    "killed": (
        "each in turn is killed by SIGKILL and started again",
        lambda asked, who: servers.killed(asked.calls, contenders=who),
    ),
    "rolled": (
        "each in turn drains on SIGTERM and is started again",
        lambda asked, who: servers.rolled(asked.calls, contenders=who),
    ),
    "rolled-writes": (
        "the same, calls that may not be repeated",
        lambda asked, who: servers.rolled(asked.calls, writes=True, contenders=who),
    ),
    "blackhole": (
        "one server's packets vanish",
        lambda asked, who: network.blackholed(asked.seconds, contenders=who),
    ),
    "reset": (
        "one server's connections get RST twice a second",
        lambda asked, who: network.reset(asked.seconds, contenders=who),
    ),
    "slow": (
        f"one server is {network.SLOW * 1000:.0f} ms away, each way",
        lambda asked, who: network.slowed(asked.seconds, contenders=who),
    ),
    "loss": (
        f"{network.LOSS:.0%} of all packets come a retransmission later",
        lambda asked, who: network.lossy(asked.seconds, contenders=who),
    ),
}
OUTAGE = "outage"
ROW = "  {:<6} {:>6} {:>7} {:>7} {:>8} {:>8} {:>8}   {}"


async def stage_one(name: str, asked: argparse.Namespace, who: Sequence[str]) -> None:
    what, trial = TRIALS[name]
    print(f"\n{name}: {what}")
    async with trial(asked, who) as stage:
        notes = ", ".join(f"{key} {value}" for key, value in stage.notes.items())
    print(ROW.format("who", "calls", "failed", "", "median", "99 %", "longest", ""))
    for contender, load in stage.loads.items():
        print(row(contender, load.figures))
    if notes:
        print(f"  mesh: {notes}")


def row(who: str, found: Figures) -> str:
    share = f"{found.failed / max(1, found.sent):.2%}"
    times = [f"{value * 1000:.0f} ms" for value in (found.median, found.tail, found.slowest)]
    return ROW.format(who, found.sent, found.failed, share, *times, found.codes).rstrip()


async def outages(seconds: float, who: Sequence[str]) -> None:
    print(f"\n{OUTAGE}: the last service answers nothing but UNAVAILABLE for {seconds:g} s")
    print("  hops  by          calls  attempts  amplification  95 % well again after")
    others = [name for name in who if name != "mesh"]
    for name in ("retries", "production", *others):
        tell(await one_hop(name, Mood.REFUSE, seconds))
    for name in ("retries", "production"):
        tell(await three_hops(name, Mood.REFUSE, seconds))
    print("  retries: the mesh with nothing but retries within their budget, no breaker")


def tell(found: Outage) -> None:
    again = "not in time" if found.recovered is None else f"{found.recovered:.1f} s"
    counts = f"{found.calls:>6} {found.attempts:>9} {found.amplification:>14.3f}"
    print(f"  {found.hops:<5} {found.who:<10} {counts}  {again}")


async def run(asked: argparse.Namespace) -> None:
    who = CONTENDERS if asked.tuned else CONTENDERS[:2]
    for name in asked.trials or (*TRIALS, OUTAGE):
        if name == OUTAGE:
            await outages(asked.seconds, who)
        else:
            await stage_one(name, asked, who)
        sys.stdout.flush()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.partition("\n\n")[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=", ".join((*TRIALS, OUTAGE)))
    parser.add_argument("--seconds", type=float, default=5.0, help="that a fault lasts")
    parser.add_argument("--calls", type=int, default=2000, help="during kills and restarts")
    parser.add_argument("--tuned", action="store_true", help="grpcio with its own retries, too")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.trials) - {*TRIALS, OUTAGE})
    if unknown:
        parser.error(f"no such trial: {', '.join(unknown)}")
    asyncio.run(run(asked))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
