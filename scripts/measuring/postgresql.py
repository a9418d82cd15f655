"""A real PostgreSQL server of one's own: a cluster in a folder, run by the system's packages."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from scripts.stage.preflight import free_port

START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class Unavailable(Exception):
    """This machine can't have the server; the text says why."""


class Server:
    """One cluster in a directory of its own, on a loopback port and a socket in that directory."""

    def __init__(
        self,
        directory: Path,
        binaries: Path,
        account: dict[str, Any],
        wrapper: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self._wrapper = tuple(wrapper)
        self._binaries = binaries
        self._account = account
        self._numbers = count(1)
        self.port = free_port()
        self._process: subprocess.Popen[Any] | None = None

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def make(self) -> None:
        """Make the cluster."""
        initdb = [str(self._binaries / "initdb"), "--auth=trust", "--username=mesh", "--no-sync"]
        made = subprocess.run(
            [*initdb, "--encoding=UTF8", "--locale=C", f"--pgdata={self._data}"],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
            cwd=self.directory,
            **self._account,
        )
        if made.returncode:
            raise Unavailable(f"initdb failed: {made.stderr.strip().splitlines()[-1]}")

    def start(self) -> None:
        """Serve, durably: fsync is on, as it is by default."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "max_connections": 200,
            "shared_buffers": "32MB",
            "autovacuum_naptime": "10s",
        }
        program = [str(self._binaries / "postgres"), f"-D{self._data}"]
        if self._wrapper:  # with which it ends, as the wrapper ends with us
            program = [*self._wrapper, "setpriv", "--pdeathsig=INT", *program]
        with (self.directory / "log").open("ab") as log:
            process: subprocess.Popen[Any] = subprocess.Popen(
                [*program, *(f"-c{name}={value}" for name, value in settings.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                preexec_fn=_stop_with_parent(),  # noqa: PLW1509 - one system call
                **self._account,
            )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGQUIT)
                said = (self.directory / "log").read_text().strip().splitlines()
                raise Unavailable(f"postgres does not serve: {said[-1] if said else 'silent'}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT a crash."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):  # it has just ended by itself
                os.kill(self.pid, how)
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def new_database(self) -> str:
        """The URL of a database that nobody has used."""
        name = f"mesh_{next(self._numbers)}"
        self.sql("template1", f"create database {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://mesh:secret@127.0.0.1:{self.port}/{database}"

    def sql(self, database: str, *statements: str) -> str:
        """Have psql run statements; answers what it prints."""
        asked = [argument for sql in statements for argument in ("-c", sql)]
        place = ["-h", str(self.directory), "-p", str(self.port), "-U", "mesh", "-d", database]
        done = subprocess.run(
            [self._binaries / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *place, *asked],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=True,
        )
        return done.stdout.strip()

    def _ready(self) -> bool:
        asked = ["-q", "-h", str(self.directory), "-p", str(self.port), "-U", "mesh"]
        return not subprocess.run([self._binaries / "pg_isready", *asked], check=False).returncode


@contextmanager
def cluster(parent: Path | None = None, wrapper: Sequence[str] = ()) -> Iterator[Server]:
    """A server whose cluster is in a new folder there; raises Unavailable."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise Unavailable("there is no server under /usr/lib/postgresql")
    with tempfile.TemporaryDirectory(prefix="mesh-postgres-", dir=parent) as directory:
        try:
            account = _account(Path(directory))
            server = Server(Path(directory), found[-1].parent, account, wrapper)
            server.make()
            server.start()
        except (OSError, subprocess.SubprocessError) as why:
            raise Unavailable(str(why)) from why
        try:
            yield server
        finally:
            server.stop()


def _account(directory: Path) -> dict[str, Any]:
    """postgres refuses to run as root: whose processes it runs as then."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Unavailable("root may not run it, and there is nobody else")


def _stop_with_parent() -> Callable[[], object]:
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
