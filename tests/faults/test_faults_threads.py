"""Thirty-two threads on one SyncChannel, while servers fail, die, leave and come."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any

import grpc
import pytest

import mesh
from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.config import Policy
from mesh.policy.hedge import Hedge
from mesh.policy.outlier import Outlier
from mesh.policy.retry import Retry

THREADS = 32
CALLS = 40
KEY = (("idempotency-key", "k-1"),)


class Hall(grpc.GenericRpcHandler):
    """Answers with its name; every `bad`-th call is UNAVAILABLE instead."""

    def __init__(self, name: str, bad: int = 0) -> None:
        self.name = name
        self.calls = count(1)
        self._bad = bad

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.say)

    def say(self, request: bytes, context: Any) -> bytes:
        number = next(self.calls)
        if self._bad and number % self._bad == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "every so often")
        return self.name.encode()


class Town:
    """Servers that threads of their own run, and a list of them that can change."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.listed: dict[str, int] = {}
        self._servers: dict[str, grpc.Server] = {}

    def open(self, hall: Hall) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(16), handlers=(hall,))
        self.listed[hall.name] = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._servers[hall.name] = server
        self.stack.callback(lambda: server.stop(0).wait(5))

    def kill(self, name: str) -> None:
        """Gone without a word: still listed, and its port is nobody else's."""
        self._servers[name].stop(0).wait(5)
        kept = self.stack.enter_context(socket.socket())
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", self.listed[name]))

    @property
    def target(self) -> str:
        return "static://" + ",".join(f"127.0.0.1:{port}" for port in self.listed.values())


@pytest.fixture
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(stack)


def storm(say: Any, meanwhile: Any = None, key: Any = KEY) -> Counter[str]:
    """What THREADS x CALLS calls came to, all threads at once from the first call on."""
    together = threading.Barrier(THREADS + 1)

    def work(_: int) -> list[str]:
        together.wait(10)
        return [outcome(say, key) for _ in range(CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(work, range(THREADS))
        together.wait(10)
        if meanwhile is not None:
            meanwhile()
        return Counter(each for share in found for each in share)


def outcome(say: Any, key: Any = KEY) -> str:
    try:
        return str(say(b"x", metadata=key, timeout=20).decode())
    except grpc.RpcError as error:
        return str(error.code().name)


def test_every_call_is_answered_and_everything_is_given_back(town: Town) -> None:
    for name in ("one", "two", "three"):
        town.open(Hall(name, bad=50))
    policy = Policy(
        retry=Retry(attempts=4, base=0.001),
        bulkhead=Bulkhead(limit=8, queue=THREADS, wait=20.0),
        outlier=Outlier(consecutive_errors=3),
    )
    with mesh.SyncChannel(town.target, policy) as channel:
        found = storm(channel.unary_unary("/town.Hall/Say"))
        members = channel.memory.pool.members.values()

        assert found.total() == THREADS * CALLS
        assert set(found) == {"one", "two", "three"}
        assert [member.in_flight for member in members] == [0, 0, 0]
        assert channel.memory.pool.waiting == 0
        assert channel.active == set()


def test_hedges_race_on_threads_of_their_own(town: Town) -> None:
    town.open(Hall("one"))
    town.open(Hall("two"))
    policy = Policy(hedge=Hedge(attempts=2, delay=0.0))
    before = threading.active_count()
    with mesh.SyncChannel(town.target, policy) as channel:
        say = channel.unary_unary("/town.Hall/Say")
        with ThreadPoolExecutor(8) as pool:
            found = Counter(pool.map(lambda _: outcome(say), range(200)))

        assert found.total() == 200
        assert set(found) <= {"one", "two"}
        assert [member.in_flight for member in channel.memory.pool.members.values()] == [0, 0]
    assert threading.active_count() < before + THREADS


def test_a_server_that_dies_under_thirty_two_threads_costs_no_call(town: Town) -> None:
    for name in ("one", "two", "three"):
        town.open(Hall(name))
    policy = Policy(retry=Retry(attempts=4, base=0.01), retry_tokens=1000)
    with mesh.SyncChannel(town.target, policy) as channel:
        found = storm(channel.unary_unary("/town.Hall/Say"), lambda: town.kill("two"))

        assert found.total() == THREADS * CALLS
        assert set(found) <= {"one", "two", "three"}


def test_endpoints_leave_and_return_under_thirty_two_threads(town: Town) -> None:
    """
    Links open and drain, snapshots are published while all pick: no call is lost by it.

    Without a key, nothing is sent twice: what was picked and had left was never sent at all.
    """
    for name in ("one", "two", "three"):
        town.open(Hall(name))
    notices = Notices(town.stack)
    instances = [Instance("town", "127.0.0.1", port, id=n) for n, port in town.listed.items()]
    for instance in instances:
        notices.put_up(instance)
    with mesh.SyncChannel("town", Policy(retry=Retry()), registry=notices.registry) as channel:

        def shuffle() -> None:
            for number in range(30):
                leaving = instances[number % 3]
                notices.registry.remove(leaving)
                notices.put_up(leaving)

        found = storm(channel.unary_unary("/town.Hall/Say"), shuffle, key=())

        assert found.total() == THREADS * CALLS
        assert set(found) <= {"one", "two", "three"}


class Notices:
    """A registry, and a loop that lives as long as what is registered in it."""

    def __init__(self, stack: ExitStack) -> None:
        self.registry = MemoryRegistry()
        self._loop = asyncio.new_event_loop()
        self._entered: list[Any] = []
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        stack.callback(self._loop.close)
        stack.callback(thread.join, 5)
        stack.callback(self._loop.call_soon_threadsafe, self._loop.stop)

    def put_up(self, instance: Instance) -> None:
        self._entered.append(entry := self.registry.register(instance))

        async def enter() -> None:
            await entry.__aenter__()

        asyncio.run_coroutine_threadsafe(enter(), self._loop).result(5)
