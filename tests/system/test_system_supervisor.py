"""Programs kept running: order, restarts, stubborn ones, and what is left behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from scripts.stage.child import Died, Program
from scripts.stage.supervisor import Supervisor

POLITE = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"listening on 127.0.0.1:{os.getpid()}", flush=True)
    time.sleep(60)
"""
# Starts a process of its own, and neither listens to SIGTERM.
STUBBORN = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(f"listening on 127.0.0.1:{child.pid}", flush=True)
    time.sleep(60)
"""


def program(name: str, source: str) -> Program:
    return Program(name, (sys.executable, "-c", textwrap.dedent(source)))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended; nobody has asked yet how.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def ended(pid: int) -> bool:
    """Whether it ends within the moment that the kernel needs for it."""
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


async def test_groups_stop_in_reverse_order(tmp_path: Path) -> None:
    said: list[str] = []
    last_word = POLITE.replace("sys.exit(0)", "(print('bye', flush=True), sys.exit(0))")
    async with Supervisor(tmp_path, lambda name, text: said.append(f"{name} {text}")) as supervisor:
        await supervisor.start([program("first", last_word)], 10)
        await supervisor.start([program("second", last_word)], 10)

    assert [line for line in said if line.endswith("bye")] == ["second | bye", "first | bye"]


async def test_a_program_that_is_killed_starts_again_after_a_pause(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, lambda name, text: None) as supervisor:
        await supervisor.start([program("one", POLITE)], 10)
        child = supervisor.children["one"]
        before, began = child.address, time.monotonic()
        child.listening.clear()
        child.signal(signal.SIGKILL)
        await child.listening.wait()

        assert child.address != before
        assert child.restarts == 1
        assert time.monotonic() - began > 0.2


async def test_a_program_that_ends_before_it_is_ready_is_not_repeated(tmp_path: Path) -> None:
    refusing = program("two", "print('two: no such port'); raise SystemExit(2)")
    async with Supervisor(tmp_path, lambda name, text: None) as supervisor:
        with pytest.raises(Died, match=r"^two: no such port$") as death:
            await supervisor.start([program("one", POLITE), refusing], 10)

    assert death.value.code == 2


async def test_a_program_that_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, lambda name, text: None) as supervisor:
        with pytest.raises(TimeoutError, match="mute not ready after 1 s"):
            await supervisor.start([program("mute", "import time; time.sleep(60)")], 1)


async def test_what_does_not_stop_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.stage.supervisor.STOP_SECONDS", 1.0)
    async with Supervisor(tmp_path, lambda name, text: None) as supervisor:
        await supervisor.start([program("stubborn", STUBBORN)], 10)
        child = supervisor.children["stubborn"]
        parent, grandchild = child.pid, port(child.address)
        assert parent is not None
        assert alive(grandchild)

    assert ended(parent)
    assert ended(grandchild)


async def test_output_is_kept_to_the_last_byte(tmp_path: Path) -> None:
    talkative = POLITE.replace("time.sleep(60)", "print('x' * 100_000 + 'y', end='')")
    async with Supervisor(tmp_path, lambda name, text: None) as supervisor:
        await supervisor.start([program("talkative", talkative)], 10)
        child = supervisor.children["talkative"]
        child.listening.clear()
        await child.listening.wait()  # it has ended once, and started again

    kept = (tmp_path / "talkative.log").read_text().replace("\n", "")
    assert "x" * 100_000 + "y" in kept


def test_programs_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    starter = f"""
        import asyncio, sys, time
        from pathlib import Path
        from scripts.stage.child import Program
        from scripts.stage.supervisor import Supervisor

        async def main():
            async with Supervisor(Path({str(tmp_path)!r}), lambda name, text: None) as supervisor:
                program = Program("one", (sys.executable, "-c", {textwrap.dedent(POLITE)!r}))
                await supervisor.start([program], 10)
                print(supervisor.children["one"].address, flush=True)
                time.sleep(60)

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(starter)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = port(running.stdout.readline())
        assert alive(pid)
        running.kill()

    assert ended(pid)
