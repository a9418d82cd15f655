"""
One program kept running: started, its output kept, started again when it dies.

    start -> says "listening on HOST:PORT" -> ready
      ^                                        |
      '---- 0.2 s, doubling up to 5 s ---------' it died

The first start is different: a program that ends before it was ever ready has something to say,
so nothing is repeated and `started` raises `Died` with its last line.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TETHER = Path(__file__).resolve().parent / "tether.py"
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
STEADY_SECONDS = 10.0
LOG_BYTES = 2_000_000
LAST_WORDS_SECONDS = 0.3
PYTHON = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
LISTENING = r"listening on \S*?([\w.:\[\]-]+:\d+)"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run; `ready` finds the address in the line that says it serves."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    ready: str = LISTENING
    directory: Path | None = None


class Died(Exception):
    """A program ended before it was ready; `code` is its exit code, the text its last line."""

    def __init__(self, name: str, code: int, line: str) -> None:
        super().__init__(line or f"{name} ended with {code} before it was ready")
        self.name = name
        self.code = code


class Log:
    """A program's output in a file, the half before the last LOG_BYTES in another beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    def write(self, text: bytes) -> None:
        if self._file.tell() > LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("ab")
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Child:
    """A program and the process that runs it now; `say` is told what it does."""

    def __init__(self, program: Program, log: Log, say: Callable[[str, str], None]) -> None:
        self.program = program
        self.address = ""
        self.listening = asyncio.Event()
        self.restarts = 0
        self.started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._log = log
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._last_words = False
        self._keeping = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int | None:
        """The running process, None between two of them."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def signal(self, number: signal.Signals) -> None:
        """Signal the process; SIGKILL goes to all it started."""
        if self.pid is None:
            return
        with suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    async def stop(self, seconds: float) -> None:
        """Ask it to stop, wait, then kill; it is not started again."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._keeping], timeout=max(seconds, 0.1))
        if not done:
            self._say(self.program.name, f"did not stop within {seconds:.0f} s, killed; it was in")
            self._last_words = True
            self.signal(signal.SIGABRT)  # Python then prints where it is: see _run
            await asyncio.wait([self._keeping], timeout=LAST_WORDS_SECONDS)
            self.signal(signal.SIGKILL)
        await self._keeping
        self._log.close()

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            code, line = await self._run()
            if not self.started.done():
                self.started.set_exception(Died(self.program.name, code, line))
                self.started.exception()  # whoever waits for it may be gone
                return
            if self._stopping.is_set():
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._say(self.program.name, f"ended with {code}, starts again in {pause:.1f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self.restarts += 1

    async def _run(self) -> tuple[int, str]:
        """Run the program to its end; answer its exit code and its last line."""
        self.listening.clear()
        # A pipe of our own: asyncio's would keep wait() waiting for whoever inherited it.
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(TETHER), str(os.getpid())),
                *self.program.command,
                env={**os.environ, **PYTHON, **self.program.environment},
                cwd=self.program.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops it in order
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        output = Output(reading, self._heard)
        code = await self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started ends with it
        output.close()
        return code, output.last

    def _heard(self, line: str) -> None:
        self._log.write(line.encode() + b"\n")
        match = re.search(self.program.ready, line)
        if match:
            self.address = match[1]
            self.listening.set()
            if not self.started.done():
                self.started.set_result(match[1])
            self._say(self.program.name, f"listening on {match[1]}")
        else:
            self._say(self.program.name if self._last_words else f"{self.program.name} |", line)


class Output:
    """The lines of a pipe, as they come; `last` is the last that was not empty."""

    CHUNK = 65536

    def __init__(self, pipe: int, heard: Callable[[str], None]) -> None:
        self.last = ""
        self._pipe = pipe
        self._heard = heard
        self._rest = b""
        os.set_blocking(pipe, False)
        asyncio.get_running_loop().add_reader(pipe, self._read)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._pipe, self.CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._pipe)
            return False
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self.CHUNK:  # a line without an end is cut
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._tell(line)
        return True

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self.last = text
            self._heard(text)

    def close(self) -> None:
        """Read what is left and let go of the pipe."""
        while self._read():
            pass
        self._tell(self._rest)
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)
