"""What a mesh.SyncChannel and mesh.sync_interceptors do that plain blocking channels do not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

import mesh
from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.client.status import BlockingRpcFailed
from mesh.errors import BulkheadFull, Code
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.config import Policy
from mesh.policy.fallback import Fallback
from mesh.policy.retry import Retry

KEY = (("idempotency-key", "k-1"),)
QUICK = Retry(attempts=4, base=0.01, codes=frozenset({Code.UNAVAILABLE}))


class Flaky(grpc.GenericRpcHandler):
    """Fails with the statuses it is given, one a call, then answers with its name."""

    def __init__(self, name: str, *failures: grpc.StatusCode) -> None:
        self.name = name
        self.failures = list(failures)
        self.calls = 0
        self.most = self._inside = 0
        self.requests: list[list[bytes]] = []
        self.hold: threading.Event | None = None
        self._lock = threading.Lock()

    def service(self, handler_call_details: Any) -> Any:
        kind = handler_call_details.method.rsplit("/", 1)[1]
        if not hasattr(self, kind):
            return None
        return getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, kind))

    def _serve(self, context: Any) -> bytes:
        with self._lock:
            self.calls += 1
            self._inside += 1
            self.most = max(self.most, self._inside)
            failure = self.failures.pop(0) if self.failures else None
        try:
            if failure is not None:
                context.abort(failure, "flaky")
            if self.hold is not None:
                self.hold.wait(10)
            return self.name.encode()
        finally:
            with self._lock:
                self._inside -= 1

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        return self._serve(context)

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield self._serve(context)
        yield b"end"

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        self.requests.append(list(requests))
        return self._serve(context)

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.requests.append(list(requests))
        yield self._serve(context)


class Town:
    """Blocking servers, registered in a registry on a loop of its own."""

    def __init__(self, stack: ExitStack) -> None:
        self.registry = MemoryRegistry()
        self._stack = stack
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        stack.callback(self._loop.close)
        stack.callback(thread.join, 5)
        stack.callback(self._loop.call_soon_threadsafe, self._loop.stop)
        self.ports: dict[str, int] = {}
        self._held: list[Any] = []

    def open(self, handler: Flaky, health: HealthServicer | None = None) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(64), handlers=(handler,))
        if health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(health, server)
        self.ports[handler.name] = port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._stack.callback(lambda: server.stop(0).wait(5))
        held = self.registry.register(Instance("town", "127.0.0.1", port, id=handler.name))

        self._held.append(held)

        async def enter() -> None:
            await held.__aenter__()

        asyncio.run_coroutine_threadsafe(enter(), self._loop).result(5)

    def channel(self, policy: Policy | None = None) -> mesh.SyncChannel:
        return mesh.SyncChannel("town", policy or Policy(), registry=self.registry)


@pytest.fixture
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(stack)


def method(channel: Any, kind: str = "unary_unary") -> Any:
    return getattr(channel, kind)(f"/town.Hall/{kind}")


def eventually(predicate: Callable[[], object]) -> None:
    ends = time.monotonic() + 5
    while not predicate():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_keyed_call_is_repeated(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    town.open(flaky)
    with town.channel(Policy(retry=QUICK)) as channel:
        assert method(channel)(b"", metadata=KEY, timeout=5) == b"one"
    assert flaky.calls == 3


def test_a_future_is_repeated_too(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    town.open(flaky)
    with town.channel(Policy(retry=QUICK)) as channel:
        assert method(channel).future(b"", metadata=KEY, timeout=5).result(5) == b"one"
    assert flaky.calls == 2


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
def test_a_stream_is_opened_anew_until_it_answers(town, kind):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    town.open(flaky)
    with town.channel(Policy(retry=QUICK)) as channel:
        request = b"" if kind == "unary_stream" else iter([b"a", b"b"])
        reply = method(channel, kind)(request, metadata=KEY, timeout=5)
        assert (reply if kind == "stream_unary" else next(reply)) == b"one"
    assert flaky.calls == 3
    if kind != "unary_stream":
        assert flaky.requests == [[b"a", b"b"]] * 3


def test_more_than_the_buffer_holds_is_not_replayed(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    town.open(flaky)
    chunks = [b"x" * 100_000] * 4
    with town.channel(Policy(retry=QUICK)) as channel, pytest.raises(grpc.RpcError) as caught:
        method(channel, "stream_unary")(iter(chunks), metadata=KEY, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert flaky.calls == 1


def test_thirty_two_threads_pass_a_bulkhead_of_four(town):
    flaky = Flaky("one")
    town.open(flaky)
    policy = Policy(bulkhead=Bulkhead(limit=4, queue=32, wait=10.0))
    with town.channel(policy) as channel, ThreadPoolExecutor(32) as pool:
        echo = method(channel)

        def work(_: int) -> list[bytes]:
            return [echo(b"", timeout=20) for _ in range(5)]

        assert list(pool.map(work, range(32))) == [[b"one"] * 5] * 32
    assert flaky.calls == 160
    assert flaky.most <= 4


def test_a_full_bulkhead_refuses(town):
    flaky = Flaky("one")
    flaky.hold = threading.Event()
    town.open(flaky)
    with town.channel(Policy(bulkhead=Bulkhead(limit=1, queue=0))) as channel:
        first = method(channel).future(b"")
        eventually(lambda: flaky.calls)
        with pytest.raises(grpc.RpcError) as caught:
            method(channel)(b"")
        assert isinstance(caught.value, BlockingRpcFailed)
        refusal = caught.value
        assert isinstance(refusal.error, BulkheadFull)
        # As grpc's own errors, it is a future that is over.
        assert isinstance(refusal, grpc.Future)
        assert (refusal.done(), refusal.running(), refusal.cancelled()) == (True, False, False)
        assert refusal.exception() is refusal
        assert refusal.traceback() is not None
        with pytest.raises(BlockingRpcFailed):
            refusal.result()
        flaky.hold.set()
        assert first.result(5) == b"one"


def test_a_reply_that_no_server_gave_has_a_call_behind_it_too(town):
    with town.channel(Policy(fallback=Fallback(value=b"kept"))) as channel:
        reply, call = method(channel).with_call(b"", timeout=0.2)
        assert (reply, call.result(), call.code()) == (b"kept", b"kept", grpc.StatusCode.OK)
        assert list(call.trailing_metadata()) == [("mesh-fallback", "value")]
        assert call.initial_metadata() == ()
        assert call.done()


def test_a_call_leaves_a_server_that_is_gone(town):
    one, two = Flaky("one"), Flaky("two")
    town.open(one)
    town.open(two)
    with town.channel(Policy(balance=mesh.RoundRobin())) as channel:
        eventually(lambda: all(m.ready for m in channel.memory.pool.members.values()))
        replies = {method(channel)(b"", timeout=5) for _ in range(8)}
    assert replies == {b"one", b"two"}


def test_closing_cancels_what_is_in_flight(town):
    flaky = Flaky("one")
    flaky.hold = threading.Event()
    town.open(flaky)
    with town.channel() as channel:
        future = method(channel).future(b"")
        eventually(lambda: flaky.calls)
    assert future.cancelled()
    flaky.hold.set()
    with pytest.raises(ValueError, match="closed"):
        method(channel)(b"")


def test_calls_before_the_channel_is_entered_fail_clearly(town):
    with pytest.raises(ValueError, match="not entered"):
        method(town.channel())(b"")


def test_a_bad_registry_fails_where_the_channel_is_entered():
    with pytest.raises(Exception, match="gopher"), mesh.SyncChannel("gopher://here/town"):
        raise AssertionError


def test_connectivity_can_be_watched(town):
    town.open(Flaky("one"))
    states: list[grpc.ChannelConnectivity] = []
    with town.channel() as channel:
        channel.subscribe(states.append)
        grpc.channel_ready_future(channel).result(5)
        eventually(lambda: grpc.ChannelConnectivity.READY in states)
        channel.unsubscribe(states.append)


def test_interceptors_drive_the_column_on_a_channel_of_ones_own(town):
    flaky = Flaky("one", *[grpc.StatusCode.UNAVAILABLE] * 2)
    town.open(flaky)
    interceptors = mesh.sync_interceptors(Policy(retry=QUICK))
    with grpc.insecure_channel(f"127.0.0.1:{town.ports['one']}") as plain:
        channel = grpc.intercept_channel(plain, *interceptors)
        assert method(channel)(b"", metadata=KEY, timeout=5) == b"one"
        assert flaky.calls == 3
        assert method(channel).future(b"").result(5) == b"one"
        assert list(method(channel, "unary_stream")(b"")) == [b"one", b"end"]
        assert method(channel, "stream_unary")(iter([b"a"])) == b"one"
        flaky.failures = [grpc.StatusCode.UNAVAILABLE]
        call = method(channel, "stream_stream")(iter([b"a"]), metadata=KEY)
        assert list(call) == [b"one"]
        flaky.failures = [grpc.StatusCode.NOT_FOUND]
        with pytest.raises(grpc.RpcError) as caught:
            method(channel)(b"")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "flaky"


def test_a_server_is_picked_while_it_says_that_it_serves(town):
    status, health = health_pb2.HealthCheckResponse, HealthServicer()
    health.set("town", status.NOT_SERVING)
    town.open(Flaky("one"), health)
    with town.channel(Policy(health_check="town")) as channel:
        known = channel.memory.pool.members
        eventually(lambda: known["one"].ready is False)
        with pytest.raises(grpc.RpcError) as caught:
            method(channel)(b"", timeout=5)
        assert "none of 1 endpoints can be reached" in caught.value.details()
        health.set("town", status.SERVING)
        assert method(channel)(b"", timeout=5, wait_for_ready=True) == b"one"
        health.set("town", status.NOT_SERVING)
        eventually(lambda: known["one"].ready is False)
    eventually(lambda: all(thread.name != "mesh-health" for thread in threading.enumerate()))


def test_a_server_without_health_is_picked_all_the_same(town, caplog):
    town.open(Flaky("one"))
    with town.channel(Policy(health_check="town")) as channel:
        assert method(channel)(b"", timeout=5) == b"one"
    assert "no health service" in caplog.text
