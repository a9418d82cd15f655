"""The demo refuses what cannot work with exit code 2 and one line that names it."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

UNSET = ("CONSUL_HTTP_ADDR", "MESH_REGISTRY", "GATEWAY_PORT")


def refused(*arguments: str, **environment: str) -> str:
    """The line that the demo says on its way out."""
    inherited = {name: value for name, value in os.environ.items() if name not in UNSET}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.demo", *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("demo: ")
    return done.stderr.removeprefix("demo: ").rstrip()


@contextmanager
def listener() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as busy:
        port: int = busy.getsockname()[1]
        yield port


def test_a_busy_port(tmp_path: Path) -> None:
    with listener() as port:
        said = refused("--state", str(tmp_path), "--free-ports", GATEWAY_PORT=str(port))

    assert said == (
        f"port {port} for the gateway: something listens there already"
        " (GATEWAY_PORT=... chooses another)"
    )


def test_a_port_that_is_none(tmp_path: Path) -> None:
    said = refused("--state", str(tmp_path), "--free-ports", GATEWAY_PORT="http")

    assert said == "GATEWAY_PORT=http is not a port"


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    said = refused("--state", str(tmp_path), "--free-ports", CONSUL_HTTP_ADDR="127.0.0.1:1")

    assert said == "no Consul answers at 127.0.0.1:1"


def test_a_registry_that_processes_cannot_share(tmp_path: Path) -> None:
    said = refused("--state", str(tmp_path), "--free-ports", MESH_REGISTRY="memory://here")

    assert said == "MESH_REGISTRY=memory://here: the demo's processes need a Consul to meet in"


def test_a_directory_without_the_right_to_write(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    # Root may write everywhere but here.
    state = closed / "state" if os.geteuid() else Path("/proc/demo")

    assert refused("--state", str(state)).startswith(f"{state}: cannot keep state here: ")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    said = refused("--state", str(tmp_path / "file"))

    assert said == f"{tmp_path}/file: cannot keep state here: File exists"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "orders.db").write_bytes(b"not a database, but long enough to be one" * 100)

    said = refused("--state", str(tmp_path))

    assert said == f"{tmp_path}/orders.db: file is not a database; move it away to start without it"


def test_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table payments (id text primary key, note text)")
        rows = [(f"{number:06}", "x" * 50) for number in range(2000)]
        database.executemany("insert into payments values (?, ?)", rows)
        database.commit()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(8192))

    said = refused("--state", str(tmp_path))

    assert said.startswith(f"{path}: ")
    assert "damaged" in said or "malformed" in said


def test_a_state_that_another_demo_runs_on(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()

        said = refused("--state", str(tmp_path))

    assert said == f"{tmp_path}: another demo runs on it (process 4711)"


@pytest.mark.parametrize("arguments", [("--sate", "x"), ("--state",), ("more",)])
def test_arguments_it_does_not_know(arguments: tuple[str, ...]) -> None:
    assert refused(*arguments).endswith("(see --help)")
