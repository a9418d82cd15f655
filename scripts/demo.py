"""
The whole shop on this machine: `scripts/demo [--state DIR] [--check] [--legacy] [--free-ports]`.

    scripts/demo            runs until Ctrl-C or SIGTERM, then stops in reverse order: exit 0
    scripts/demo --legacy   the same with the shop of before, whose routes move to the new one
    scripts/demo --check    tells the whole story by itself on free ports: exit 0, or 1 if it fails

State (databases, logs) is kept in DIR, .demo/ unless told; --check forgets its own.  Exit 2, with
one line that says why, when it cannot run here.  A second Ctrl-C ends everything at once: 130.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from discovery import DiscoveryError
from scripts.stage import strangler
from scripts.stage.child import Died
from scripts.stage.guide import guide
from scripts.stage.preflight import Unfit, hold
from scripts.stage.running import Demo, running
from scripts.stage.supervisor import Supervisor

STATE = Path(".demo")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ALARMING = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback|^\w+Error:")
LINE_WIDTH = 200


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_complain(f"{message} (see --help)", 2))


class Terminal:
    """What the demo says, and of its programs' output what is alarming; all of it if verbose."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._gone = False

    def say(self, name: str, text: str) -> None:
        output = name.endswith("|")
        if not self._gone and (not output or self._verbose or ALARMING.search(text)):
            try:
                print(f"{name:17} {text[:LINE_WIDTH]}".rstrip(), flush=True)
            except BrokenPipeError:  # nobody reads any more: the shop runs on
                self._gone = True


def main(arguments: list[str]) -> int:
    parser = _Parser(prog="scripts/demo", description="The shop on the mesh.")
    parser.add_argument("--state", type=Path, help="where databases and logs are kept: .demo/")
    parser.add_argument("--check", action="store_true", help="tell the whole story, exit 0 or 1")
    parser.add_argument("--legacy", action="store_true", help="with an old shop to be strangled")
    parser.add_argument("--free-ports", action="store_true", help="take no port that is known")
    parser.add_argument("--verbose", action="store_true", help="show what every program prints")
    asked = parser.parse_args(arguments)
    terminal = Terminal(verbose=asked.verbose)
    logging.basicConfig(level=logging.ERROR, format="%(name)s %(levelname)s %(message)s")
    try:
        with _state(asked.state, temporary=asked.check) as state, hold(state):
            supervisor = Supervisor(state / "logs", terminal.say)
            what = (
                check(supervisor, state)
                if asked.check
                else serve(supervisor, state, free=asked.free_ports, legacy=asked.legacy)
            )
            interrupted = 130 if asked.check else 0
            return asyncio.run(_until_signalled(what, supervisor, interrupted))
    except (Unfit, DiscoveryError) as why:
        return _complain(str(why), 2)
    except Died as death:
        # 2 is how our programs say that they cannot run here; anything else is a fault in them.
        return _complain(str(death), 2 if death.code == 2 else 1)
    except TimeoutError as late:
        return _complain(str(late) or "not everything was healthy in time", 1)


def _complain(text: str, code: int) -> int:
    print(f"demo: {text}", file=sys.stderr, flush=True)
    return code


@contextmanager
def _state(asked: Path | None, *, temporary: bool) -> Iterator[Path]:
    if asked is not None or not temporary:
        yield (asked or STATE).absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="proxyless-", ignore_cleanup_errors=True) as made:
            yield Path(made)


async def serve(supervisor: Supervisor, state: Path, *, free: bool, legacy: bool) -> int:
    """Run until cancelled."""
    async with running(supervisor, state, free=free, legacy=legacy) as demo:
        print("\n" + _guide(demo), flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            supervisor.say("", "stopping: gateway, services, registry")
    return 0


async def check(supervisor: Supervisor, state: Path) -> int:
    """Tell the story, a step a line."""
    os.environ.pop("GATEWAY_PORT", None)
    async with running(supervisor, state, free=True) as demo:
        from scripts.story.teller import tell  # noqa: PLC0415 - a demo that only runs needs no stubs

        return await tell(demo)


def _guide(demo: Demo) -> str:
    return guide(
        gateway=demo.gateway,
        registry=demo.registry,
        addresses=demo.addresses,
        state=_short(demo.state),
        seconds=demo.seconds,
        memory=demo.megabytes(),
        strangler=strangler.guide(demo) if "legacy" in demo.supervisor.children else "",
    )


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


async def _until_signalled(
    what: Coroutine[object, object, int], supervisor: Supervisor, interrupted: int
) -> int:
    """Run to the end; the first signal stops in order, the second at once."""
    loop = asyncio.get_running_loop()
    running_task = asyncio.ensure_future(what)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        if signalled:
            supervisor.kill()
            os._exit(130)
        signalled = True
        running_task.cancel()

    for number in STOPPING:
        loop.add_signal_handler(number, stop)
    try:
        return await running_task
    except asyncio.CancelledError:
        return interrupted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
