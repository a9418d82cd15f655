"""The demo as a newcomer meets it: its story holds, its lines can be pasted, its state is kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts import parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
UNSET = ("CONSUL_HTTP_ADDR", "MESH_REGISTRY", "GATEWAY_PORT")
COMMAND = [sys.executable, "-P", "-m", "scripts.demo"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in UNSET}


def children(pid: int) -> set[int]:
    """Every process that `pid` started, and all that they started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            continue
    found: set[int] = set()
    while more := {each for each, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def left_of(pids: set[int], seconds: float) -> set[int]:
    """Which of the processes are still there after so many seconds."""
    end = time.monotonic() + seconds
    while left := {pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _runs(pid)}:
        if time.monotonic() > end:
            return left
        time.sleep(0.05)
    return set()


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie's is empty
    except OSError:
        return False


class Running:
    """A demo that has printed its guide."""

    def __init__(self, state: Path, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "--free-ports", "--state", str(state), *arguments],
                env=environment(),
                stdout=output,
                stderr=output,
            )
        end = time.monotonic() + 60
        while "asyncio.run(main())\nEND\n" not in self.guide:
            assert self.process.poll() is None, self.guide
            assert time.monotonic() < end, self.guide
            time.sleep(0.05)
        self.children = children(self.process.pid)
        found = re.search(r"gateway +(http://\S+)", self.guide)
        assert found
        self.gateway = found[1]

    @property
    def guide(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> dict[str, object]:
        with urllib.request.urlopen(self.gateway + path, timeout=10) as answer:
            body: dict[str, object] = json.load(answer)
            return body

    def pasted(self, prompt: str) -> list[str]:
        """The guide's lines that begin with `prompt`, with the lines that continue them."""
        wanted = re.compile(rf"^  ((?:\S*/)?{prompt} .*?(?:\\\n.*)?)$", re.MULTILINE)
        return wanted.findall(self.guide)


@contextmanager
def demo(state: Path, log: Path, *arguments: str) -> Iterator[Running]:
    running = Running(state, log, *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def shell(line: str) -> str:
    done = subprocess.run(
        line, shell=True, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_whole_story_holds() -> None:
    done = subprocess.run(
        [*COMMAND, "--check"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    for chapter in ("an order", "calls through crashes", "conservation"):
        assert f"ok      {chapter}: " in done.stdout


def test_its_lines_can_be_pasted_and_its_state_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with demo(state, tmp_path / "first") as first:
        curls = first.pasted("curl")
        assert len(curls) == 3
        if shutil.which("curl"):
            answers = [json.loads(shell(line)) for line in curls]
            assert answers[1]["status"] == "ORDER_STATUS_CONFIRMED"
            assert answers[2]["orders"] == [answers[1]]
        if parts.find("grpcurl"):
            listed, described, called = map(shell, first.pasted("grpcurl"))
            assert "shop.orders.v1.OrderService" in listed
            assert "rpc CreateOrder" in described
            assert "ada" in called or not shutil.which("curl")
        script = re.search(r"^  (\S[^\n]*<<'END'\n.*?^END$)", first.guide, re.MULTILINE | re.DOTALL)
        assert script
        assert "order_id" in shell(script[1]) or not shutil.which("curl")
        orders = first.get("/v1/orders")

        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(10) == 0
        assert left_of(first.children, 0) == set()

    with demo(state, tmp_path / "second") as second:
        assert second.get("/v1/orders") == orders


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's end")
def test_a_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    with demo(tmp_path / "state", tmp_path / "log") as running:
        assert len(running.children) >= 9
        running.process.kill()

        assert left_of(running.children, 15) == set()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with demo(tmp_path / "state", tmp_path / "log") as running:
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two signals that wait together are one
        running.process.send_signal(signal.SIGINT)

        assert running.process.wait(3) == 130
        assert left_of(running.children, 3) == set()
