"""
HTTP for an ASGI application in this very event loop: granian, on a socket of our own.

    listening = listen("127.0.0.1", 8080)              # ListenError when the port is taken
    async with serve_http(app, listening): ...         # at the end: nobody new, who is in may end

granian's own binding sets SO_REUSEPORT, so that a second gateway on the port would start and take
half of the requests; ours fails, as it should.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

BACKLOG = 512
# ms: who takes longer over its request's head is closed.
HEAD_MILLISECONDS = 10_000
# Request line and headers; what is over it is 431 or 414 before any Python runs.
HEAD_BYTES = 64 * 1024
UNREAD_SECONDS = 10.0
# How long WebSockets may take to say goodbye once serving ends.
SOCKETS_SECONDS = 1.0
# How long granian's threads may take to end after it has.
THREADS_SECONDS = 2.0
THREADS = Path("/proc/self/task")
# The servers of this process, and the native threads that were there before the first of them.
_SERVING: set[int] = set()
_OTHERS: set[str] = set()


class Application(Protocol):
    """What is served: an ASGI application that hears when serving ends."""

    stopping: asyncio.Event
    # Set while no WebSocket is open.
    silent: asyncio.Event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class ListenError(OSError):
    """The address cannot be listened on."""


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket, or ListenError; a `shared` port takes more of them, as workers do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def url_of(host: str, listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    return link(host, listening.getsockname()[1])


def link(host: str, port: int) -> str:
    """The URL of a host and port to listen on."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  not bound here
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


class _Granian(Server):
    """granian on a socket that is bound already."""

    def __init__(self, app: Application, listening: socket.socket, connections: int) -> None:
        host, port = listening.getsockname()[:2]
        super().__init__(
            app,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            # Where it waits to see which HTTP this is, granian waits for ever.
            http=HTTPModes.http1,
            # Its own default is so small that a few silent clients keep everybody out.
            backpressure=connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=HEAD_MILLISECONDS, max_buffer_size=HEAD_BYTES
            ),
            log_enabled=False,
        )
        self._listening = listening

    def _init_shared_socket(self) -> None:
        # granian closes what it is given; it gets a descriptor of its own.
        holder: Any = SocketHolder
        self._shd: Any = holder(self._listening.dup().detach(), False, BACKLOG)
        self._ssp = None


@asynccontextmanager
async def serve_http(
    app: Application,
    listening: socket.socket,
    connections: int = 1000,
    unread_seconds: float = UNREAD_SECONDS,
) -> AsyncIterator[None]:
    """
    Serve while the block runs; at most so many clients are connected at the same time.

    Who leaves what it is sent unread for `unread_seconds` is disconnected by the kernel: granian
    would keep the connection, and what is buffered for it, for as long as the client likes.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # "transmitted data may remain unacknowledged, or buffered data may remain untransmitted
        # (due to zero window size)" - tcp(7); accepted connections inherit it.
        milliseconds = max(1, int(unread_seconds * 1000))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    logging.getLogger("granian").setLevel(logging.ERROR)
    server: Any = _Granian(app, listening, connections)
    if not _SERVING:  # before the first: whose threads are whose is not known later
        _OTHERS.clear()
        _OTHERS.update(_native_threads())
    _SERVING.add(id(server))
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        app.stopping.set()
        with suppress(TimeoutError):  # a server that stops sends no more close frames
            async with asyncio.timeout(SOCKETS_SECONDS):
                await app.silent.wait()
        listening.close()
        server.stop()
        await asyncio.wait([serving], timeout=2.0)
        serving.cancel()
        _SERVING.discard(id(server))
        if not _SERVING:
            await _ended(_OTHERS)


async def _ended(others: set[str]) -> None:
    """
    Wait until no native thread is left but `others`, once the last server of the process stops.

    granian's task ends before its threads do; one that asks for the interpreter when that is
    ending aborts the process.  They end when nothing refers to a connection any more, nor the
    frames of an exception in a cycle that only the collector finds.
    """
    gc.collect()
    with suppress(TimeoutError):
        async with asyncio.timeout(THREADS_SECONDS):
            while _native_threads() - others:  # noqa: ASYNC110 - the kernel sets no event
                await asyncio.sleep(0.001)


def _native_threads() -> set[str]:
    """This process's threads that neither Python started nor their library gave a name to."""
    python = {str(thread.native_id) for thread in threading.enumerate()}
    name = _name_of(str(os.getpid()))
    if not THREADS.is_dir():
        return set()
    tasks = {entry.name for entry in THREADS.iterdir()} - python
    return {task for task in tasks if _name_of(task) == name}


def _name_of(task: str) -> str | None:
    try:
        return (THREADS / task / "comm").read_text()
    except OSError:
        return None  # it has ended
