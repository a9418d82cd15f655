"""Targets, contracts and errors: what comes in and what goes out, without a socket."""

from __future__ import annotations

import pickle

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2

from mesh.call import Call, Idempotency, Kind, Method
from mesh.client import contract, status, wire
from mesh.client.target import Target, parse
from mesh.errors import CallFailed, CircuitOpen, Code, NoEndpoint, Processed


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("orders", Target("orders")),
        ("orders?tag=v2", Target("orders", None, "v2")),
        ("127.0.0.1:50051", Target("127.0.0.1:50051", "static://127.0.0.1:50051")),
        ("consul://h:8500/orders", Target("orders", "consul://h:8500")),
        ("consul://h:8500/orders?tag=v2&dc=x", Target("orders", "consul://h:8500?dc=x", "v2")),
        ("memory://here/orders", Target("orders", "memory://here")),
        ("memory:///orders", Target("orders", "memory://")),
        ("static://a:1,b:2", Target("a:1,b:2", "static://a:1,b:2")),
        ("static://a:1?service=orders", Target("orders", "static://a:1?service=orders")),
        ("dns://orders.internal:1", Target("orders.internal:1", "dns://orders.internal:1")),
    ],
)
def test_a_target_names_a_service_and_its_registry(text, target):
    assert parse(text) == target


@pytest.mark.parametrize("text", ["", "a/b", "consul://h:8500", "consul://h:8500/"])
def test_a_target_that_names_no_service_is_refused(text):
    with pytest.raises(ValueError, match="target: "):
        parse(text)


def describe() -> type:
    """A contract of its own in the default pool, and its request's class."""
    file = descriptor_pb2.FileDescriptorProto(name="edges.proto", package="edges", syntax="proto3")
    request = file.message_type.add(name="Ask")
    request.field.add(name="request_id", number=1, type=9, label=1)
    service = file.service.add(name="Desk")
    levels = {"Unknown": 0, "Read": 1, "Put": 2}
    for name, level in levels.items():
        method = service.method.add(name=name, input_type=".edges.Ask", output_type=".edges.Ask")
        method.options.idempotency_level = level
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("edges.Ask"))


def test_the_contract_says_what_may_be_repeated():
    ask = describe()
    found = {
        name: contract.read(f"/edges.Desk/{name}", Kind.UNARY_UNARY)
        for name in ("Unknown", "Read", "Put")
    }
    assert {name: method.idempotency for name, (method, _) in found.items()} == {
        "Unknown": Idempotency.UNKNOWN,
        "Read": Idempotency.NO_SIDE_EFFECTS,
        "Put": Idempotency.IDEMPOTENT,
    }
    assert all(keyed for _, keyed in found.values())
    assert contract.key_of(ask(request_id="r-1"), True, ()) == "r-1"
    assert contract.key_of(ask(), True, ()) is None
    assert contract.key_of(ask(), True, (("idempotency-key", "k"),)) == "k"
    assert contract.key_of(b"raw", False, (("other", "k"),)) is None


def test_a_method_without_contract_may_have_side_effects():
    method, keyed = contract.read("/nowhere.Known/Do", Kind.UNARY_UNARY)
    assert method.idempotency is Idempotency.UNKNOWN
    assert not keyed


def test_a_refusal_reaches_the_caller_as_a_status_with_details():
    error = status.surface(CircuitOpen(2.5))
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "circuit is open for another 2.5 s"
    rich = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert rich.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("CIRCUIT_OPEN", "proxyless")
    assert rich.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 2500


def test_the_servers_own_error_is_handed_back_as_it_came():
    source = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(("k", "v")), "gone"
    )
    failure = status.failed(source)
    assert (failure.code, failure.details, failure.trailing) == (
        Code.NOT_FOUND,
        "gone",
        (("k", "v"),),
    )
    assert failure.processed is Processed.UNKNOWN
    assert status.surface(failure) is source


def test_a_cancellation_that_nobody_here_asked_for_is_unavailable_to_the_flow():
    source = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, details="x")
    assert status.failed(source).code is Code.UNAVAILABLE


def test_a_failure_of_our_own_making_has_a_reason_too():
    error = status.surface(CallFailed(Code.UNAVAILABLE, "no connection", processed=Processed.NO))
    assert isinstance(error, status.RpcFailed)
    assert error.details() == "no connection"


def test_a_blocking_refusal_is_a_call_too():
    error = status.surface_blocking(NoEndpoint("nobody"))
    assert isinstance(error, grpc.RpcError)
    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "nobody"
    assert error.trailing_metadata()[0][0] == "grpc-status-details-bin"
    assert not error.is_active()


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(status.surface(NoEndpoint("nobody"))))
    assert error.details() == "nobody"


def test_an_attempt_adds_its_own_metadata_but_never_over_the_callers():
    call = Call(Method("/a/b"), metadata=(("x", "1"), ("x", "2")))
    assert wire.metadata(call) == (("x", "1"), ("x", "2"))
    call.attempt, call.traceparent, call.retried_for = 3, "00-a-b-01", "UNAVAILABLE"
    assert wire.metadata(call) == (
        ("x", "1"),
        ("x", "2"),
        ("traceparent", "00-a-b-01"),
        ("grpc-previous-rpc-attempts", "2"),
        ("x-mesh-retried-for", "UNAVAILABLE"),
    )
    call.metadata = (("traceparent", "mine"),)
    assert wire.metadata(call)[:1] == (("traceparent", "mine"),)
    assert sum(name == "traceparent" for name, _ in wire.metadata(call)) == 1
