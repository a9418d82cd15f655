"""
A bad network between real sockets: TCP proxies whose faults change while calls run.

    async with Network() as network:
        link = network.link("127.0.0.1:50051")       # call link.address instead
        link.set(latency=0.1, jitter=0.05)           # both ways
        link.replies.blackhole = True                # one way: requests arrive, answers never do
        link.reset()                                 # RST on every connection; link.cut() is FIN
        link.refuse = True                           # new connections: ECONNREFUSED

TCP keeps its promises here: bytes come late or never, but in order and unharmed; what a blackhole
held arrives when it ends, as retransmission would have it.  `loss` is the share of chunks that
come one retransmission later.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from typing import Self

CHUNK = 64 * 1024
# Chunks on their way in one direction; then the sender feels it, as with a full window.
WINDOW = 64
RETRANSMISSION_SECONDS = 0.2
# SO_LINGER on, zero seconds: close() sends RST.
ABORTIVE = struct.pack("ii", 1, 0)


class Lane:
    """One direction of a link; times are seconds, `rate` is bytes a second (0: no bound)."""

    def __init__(self, random: Random) -> None:
        self.latency = 0.0
        self.jitter = 0.0
        self.loss = 0.0
        self.rate = 0.0
        self._random = random
        self._open = asyncio.Event()
        self._open.set()

    @property
    def blackhole(self) -> bool:
        """Whether nothing arrives any more."""
        return not self._open.is_set()

    @blackhole.setter
    def blackhole(self, value: bool) -> None:
        if value:
            self._open.clear()
        else:
            self._open.set()

    def delay(self) -> float:
        """How long the next chunk is on its way."""
        lost = RETRANSMISSION_SECONDS if self._random.random() < self.loss else 0.0
        return self.latency + lost + self._random.uniform(0.0, self.jitter)

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Move bytes until the source ends, then end the sink."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(source, due))
            both.create_task(self._deliver(due, sink))

    async def _take(
        self, source: asyncio.StreamReader, due: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        clock = asyncio.get_running_loop().time
        chunk = b"begin"
        while chunk:
            chunk = await source.read(CHUNK)
            await due.put((clock() + self.delay(), chunk))

    async def _deliver(
        self, due: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            when, chunk = await due.get()
            if when > clock():
                await asyncio.sleep(when - clock())
            await self._open.wait()
            if not chunk:
                sink.write_eof()
                return
            sink.write(chunk)
            await sink.drain()
            if self.rate:
                await asyncio.sleep(len(chunk) / self.rate)


class Link:
    """A proxy before one server; made by `Network.link`."""

    def __init__(self, upstream: str, random: Random) -> None:
        self.upstream = upstream
        self.requests = Lane(random)
        self.replies = Lane(random)
        self.host = "127.0.0.1"
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def address(self) -> str:
        """host:port that clients call."""
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections go through now."""
        return len(self._connections)

    def set(self, **faults: float) -> None:
        """Set latency, jitter, loss, rate or blackhole both ways."""
        for name, value in faults.items():
            if not hasattr(self.requests, name):
                raise AttributeError(f"a link has no fault {name!r}")
            setattr(self.requests, name, value)
            setattr(self.replies, name, value)

    @property
    def refuse(self) -> bool:
        """Whether new connections are refused; those that are there go on."""
        return self._listener.fileno() == -1

    @refuse.setter
    def refuse(self, value: bool) -> None:
        if value == self.refuse:
            return
        if value:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        else:
            self._listener = self._listen(self.port)

    def reset(self) -> None:
        """Break every connection with RST, both ways: a crash."""
        self._break(abortive=True)

    def cut(self) -> None:
        """Break every connection with FIN, both ways: an orderly end at a bad moment."""
        self._break(abortive=False)

    def down(self) -> None:
        """Refuse and reset: the server's process is dead."""
        self.refuse = True
        self.reset()

    def up(self) -> None:
        """Take connections again, at the same address."""
        self.refuse = False

    async def close(self) -> None:
        """Give everything back."""
        self.down()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _break(self, *, abortive: bool) -> None:
        for task, writers in tuple(self._connections.items()):
            for writer in writers:
                if abortive:
                    _abort(writer)
                else:
                    writer.close()
            task.cancel()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((self.host, port), backlog=128)
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept)
        return listener

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it left before it was let in
        client.setblocking(False)
        task = asyncio.create_task(self._serve(client))
        self._connections[task] = []
        task.add_done_callback(partial(self._ended, client))

    def _ended(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        if not self._connections.pop(task):
            client.close()  # cancelled before it began

    async def _serve(self, client: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task]
        with _closing(writers):
            near_reader, near = await asyncio.open_connection(sock=client)
            writers.append(near)
            try:
                host, _, port = self.upstream.rpartition(":")
                far_reader, far = await asyncio.open_connection(host.strip("[]"), int(port))
            except OSError:
                _abort(near)
                return
            writers.append(far)
            try:
                async with asyncio.TaskGroup() as lanes:
                    lanes.create_task(self.requests.carry(near_reader, far))
                    lanes.create_task(self.replies.carry(far_reader, near))
            except* OSError:
                # One side broke: the other learns of it in the same way.
                for writer in writers:
                    _abort(writer)


class Network:
    """Links that are closed together; `seed` makes jitter and loss repeatable."""

    def __init__(self, seed: int = 0) -> None:
        self.links: list[Link] = []
        self._random = Random(seed)

    def link(self, upstream: str) -> Link:
        """A new address in front of `upstream` (host:port)."""
        link = Link(upstream, self._random)
        self.links.append(link)
        return link

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *why: object) -> None:
        await asyncio.gather(*(link.close() for link in self.links))


@contextmanager
def _closing(writers: list[asyncio.StreamWriter]) -> Iterator[None]:
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
    writer.transport.abort()
