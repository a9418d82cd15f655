"""
Where a cluster's members live: each in a network of its own, or on loopback addresses.

    Namespaces   10.213.N.1 the test    .11 .12 .13 servers    .14 the agent    needs root
    Loopback     127.213.N.1            the same                                needs nothing

In a namespace a member that is cut off has its cable unplugged.  On loopback there is no cable: it
is stopped (SIGSTOP), so that it hears nobody and answers nobody, as seen by all others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest

SERVERS = (11, 12, 13)
AGENT = 14


class Ground(Protocol):
    """`net` is what all addresses begin with; members are the last numbers of theirs."""

    net: str

    def inside(self, member: int) -> tuple[str, ...]:
        """What a member's command line begins with."""
        ...

    def cut(self, member: int, pid: int) -> None: ...

    def mend(self, member: int, pid: int) -> None: ...


class Namespaces:
    def __init__(self, number: int) -> None:
        self.net = f"10.213.{number}"
        self.name = f"mesh{number}"

    def inside(self, member: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", f"{self.name}-{member}")

    def cut(self, member: int, pid: int) -> None:
        _ip("link", "set", f"{self.name}v{member}", "down")

    def mend(self, member: int, pid: int) -> None:
        _ip("link", "set", f"{self.name}v{member}", "up")

    @contextmanager
    def made(self) -> Iterator[None]:
        """A bridge, and a namespace with a cable to it for each member."""
        with contextlib.ExitStack() as undo:
            _ip("link", "add", self.name, "type", "bridge")
            undo.callback(_ip, "link", "del", self.name)
            _ip("addr", "add", f"{self.net}.1/24", "dev", self.name)
            _ip("link", "set", self.name, "up")
            for member in (*SERVERS, AGENT):
                space, cable = f"{self.name}-{member}", f"{self.name}v{member}"
                _ip("netns", "add", space)
                undo.callback(_ip, "netns", "del", space)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
                undo.callback(_ip, "link", "del", cable)
                _ip("link", "set", cable, "master", self.name, "up")
                there = ("netns", "exec", space, "ip")
                _ip(*there, "addr", "add", f"{self.net}.{member}/24", "dev", "eth0")
                _ip(*there, "link", "set", "eth0", "up")
                _ip(*there, "link", "set", "lo", "up")
            yield


class Loopback:
    def __init__(self, number: int) -> None:
        self.net = f"127.213.{number}"

    def inside(self, member: int) -> tuple[str, ...]:
        return ()

    def cut(self, member: int, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)

    def mend(self, member: int, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def ground(wanted: str = "") -> Iterator[Ground]:
    """Namespaces where they are allowed, else loopback, by a warning; skips what is `wanted`."""
    number = os.getpid() % 200 + 1
    with contextlib.ExitStack() as stack:
        found: Ground = Loopback(number)
        if wanted != "loopback":
            spaces = Namespaces(number)
            try:
                stack.enter_context(spaces.made())
                found = spaces
            except (OSError, subprocess.CalledProcessError) as why:
                if wanted:
                    pytest.skip(f"no network namespaces here: {why}")
                text = f"no network namespaces here ({why}): the cluster is on loopback addresses"
                warnings.warn(text, stacklevel=2)
        yield found


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
