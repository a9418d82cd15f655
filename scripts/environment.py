"""
Make .venv hold what a lock file says, then run one script of this folder in it.

    scripts/demo -> launch.sh -> environment.py requirements.lock demo ... -> .venv: scripts.demo

The packages come from the lock by hash, the project itself is installed in place without asking
any index.  A stamp beside them remembers what was installed: the second run costs milliseconds.
Runs before anything is installed: standard library only.  Exit code 2 when it cannot be done.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
# The second holds all of the first at the same versions: what has it needs nothing more.
LOCKS = ("requirements.lock", "requirements-dev.lock")
SHOW_EVERY = 10


class Unusable(Exception):
    """This machine or its Python cannot hold the environment; the text is one line."""


def main(arguments: list[str]) -> None:
    lock, script, *rest = arguments
    try:
        ensure(lock)
    except (Unusable, OSError) as why:
        sys.exit(_complain(script, str(why)))
    except KeyboardInterrupt:
        sys.exit(130)
    os.execv(PYTHON, [str(PYTHON), "-P", "-m", f"scripts.{script}", *rest])  # noqa: S606


def _complain(script: str, why: str) -> int:
    print(f"{script}: {why}", file=sys.stderr)
    return 2


def ensure(lock: str) -> None:
    """Install the lock's packages and the project into .venv, unless they are there already."""
    if _installed(lock):
        return
    _require_usable_python()
    with _alone():
        if _installed(lock):  # another run has just done it
            return
        if not _works():
            _say("making .venv")
            venv.create(VENV, clear=VENV.exists(), with_pip=True)
        _install_packages(lock)
        _say("installing the project itself")
        _pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        _stamp(lock).write_text(_wanted(lock))


def _installed(lock: str) -> bool:
    return any(
        _stamp(name).exists() and _stamp(name).read_text() == _wanted(name)
        for name in LOCKS[LOCKS.index(lock) :]
    )


def _stamp(lock: str) -> Path:
    return VENV / f".installed-{lock}"


def _wanted(lock: str) -> str:
    """Changes when anything does that the installation depends on, the checkout's place too."""
    parts = [(ROOT / name).read_bytes() for name in (*LOCKS, "pyproject.toml")]
    return hashlib.sha256(b"\0".join([lock.encode(), bytes(ROOT), *parts])).hexdigest()


def _require_usable_python() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        raise Unusable(f"Python 3.11 or newer is needed, {sys.executable} is {version}")
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Unusable(
                f"{sys.executable} ({version}) has no module {module};"
                " on Debian and Ubuntu it is in the package python3-venv"
            )


def _works() -> bool:
    """Whether .venv has a Python new enough that has pip."""
    ask = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        done = subprocess.run([PYTHON, "-c", ask], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@contextmanager
def _alone() -> Iterator[None]:
    """One installation at a time: the project's folder is the lock."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _install_packages(lock: str) -> None:
    total = len(re.findall(r"^\S+==", (ROOT / lock).read_text(), re.MULTILINE))
    _say(f"installing {total} packages of {lock} into .venv")
    _pip("--require-hashes", "--requirement", str(ROOT / lock), total=total)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


def _pip(*arguments: str, total: int = 0) -> None:
    """Run pip install; show how far it is; its last error becomes ours."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    pip = subprocess.Popen(
        [*command, "--progress-bar=off", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    collected, error = 0, "no output"
    with pip:
        for line in pip.stdout or ():
            if line.startswith("ERROR"):
                error = line.strip()
            match = re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line)
            if match and total:
                collected += 1
                _show(collected, total, match[1])
            elif total and line.startswith("Installing collected"):
                _say("unpacking")
    if pip.returncode:
        raise Unusable(f"pip could not install {arguments[-1]}: {error}")


def _show(done: int, total: int, name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K  {done:3} of {total}  {name}", end="", file=sys.stderr, flush=True)
    elif done % SHOW_EVERY == 0:
        _say(f"{done} of {total} fetched")


def _say(text: str) -> None:
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
