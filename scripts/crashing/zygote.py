"""
The parent that every victim is forked from: it has imported the services, and opened nothing.

    <- {"service": "orders", "host": "127.0.0.1", "port": 15001, "environment": {...},
        "log": "a file", "tracer": 10.0}
    -> {"started": 4711}
    -> {"ended": 4711, "code": -9}

A service spends half a second of CPU on its imports, under strace more, and whoever dies in them
has written nothing; forked from here it begins behind them, at the first line of its __main__.
Two rules.  Nothing is opened here and no thread started: neither would be the child's own.  A child
that is to be traced does nothing until it is, for so many seconds: no call of it is missed.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

PRELOADED = (
    *(f"services.{name}.service" for name in ("orders", "payments", "inventory", "notifications")),
    # What they import only once they are entered.
    *("services.process", "mesh.client.channel", "discovery.static", "encodings.idna", "zipfile"),
)
LOOK_SECONDS = 0.001
PR_SET_PDEATHSIG = 1
PR_SET_PTRACER = 0x59616D61
ANYBODY = ctypes.c_ulong(-1)
SELF = Path("/proc/self")
CHUNK = 65536


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    _require_nothing_opened()
    # A collection in a child would copy every page that it looks at.
    gc.collect()
    gc.freeze()
    waking, woken = os.pipe()
    os.set_blocking(waking, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    _tell({"ready": os.getpid()})
    rest = b""
    while True:
        ready, _, _ = select.select([sys.stdin.fileno(), waking], [], [])
        if waking in ready:
            os.read(waking, CHUNK)
            _reap()
        if sys.stdin.fileno() in ready:
            chunk = os.read(sys.stdin.fileno(), CHUNK)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _fork(json.loads(line))


def _require_nothing_opened() -> None:
    """A thread does not outlive a fork, and a file that many have is nobody's own."""
    threads = len(list((SELF / "task").iterdir())) - 1
    # Listing them opens one.
    files = len(list((SELF / "fd").iterdir())) - 4
    if threads or files > 0:
        sys.exit(f"zygote: importing the services has left {threads} threads and {files} files")


def _tell(said: Mapping[str, int]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(said).encode() + b"\n")


def _reap() -> None:
    """Tell of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _fork(asked: Mapping[str, Any]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(parent, asked)
    _tell({"started": pid})


def _live(parent: int, asked: Mapping[str, Any]) -> NoReturn:
    """Be the service, as if it had been started by a command of its own."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _tether(parent)
        _redirect(asked["log"])
        os.environ.update(asked["environment"])
        if asked["tracer"]:
            _await_tracer(asked["tracer"])
        service = f"services.{asked['service']}"
        sys.argv[:] = [service, f"--host={asked['host']}", f"--port={asked['port']}"]
        runpy.run_module(service, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - there is nobody above who could say it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tether(parent: int) -> None:
    """End with the zygote, and be traced by whom it likes, though it is no ancestor (Yama)."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    libc.prctl(PR_SET_PTRACER, ANYBODY)
    os.setsid()


def _redirect(log: str) -> None:
    """Leave the zygote's pipes to the zygote."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for there, here in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(there, here)
    os.closerange(3, max(nothing, output) + 1)


def _await_tracer(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while "\nTracerPid:\t0\n" in (SELF / "status").read_text():
        if time.monotonic() > ends:
            sys.exit(f"nobody has traced it for {seconds} s")
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
