"""Which headers cross the gateway."""

from __future__ import annotations

import pytest

from gateway import headers
from gateway.invalid import Invalid


@pytest.mark.parametrize(
    ("name", "value", "metadata"),
    [
        ("Authorization", "Bearer x", ("authorization", "Bearer x")),
        ("Idempotency-Key", "k-1", ("idempotency-key", "k-1")),
        ("Traceparent", "00-a-b-01", ("traceparent", "00-a-b-01")),
        ("X-Request-Id", "r", ("x-request-id", "r")),
        ("Last-Event-Id", "7", ("last-event-id", "7")),
        ("Grpc-Metadata-Color", "red", ("color", "red")),
        ("Grpc-Metadata-Key-Bin", "AQI=", ("key-bin", b"\x01\x02")),
        ("Grpc-Metadata-Key-Bin", "AQI", ("key-bin", b"\x01\x02")),
        ("Host", "shop.example", ("x-forwarded-host", "shop.example")),
    ],
)
def test_a_header_of_the_allow_list_becomes_metadata(
    name: str, value: str, metadata: tuple[str, str | bytes]
) -> None:
    assert metadata in headers.metadata([(name.encode(), value.encode())], "10.0.0.1")


@pytest.mark.parametrize(
    "name",
    ["Cookie", "Connection", "TE", "Upgrade", "X-Envoy-Retry-On", "X-Whatever", "Content-Type"],
)
def test_any_other_header_stays_outside(name: str) -> None:
    found = headers.metadata([(name.encode(), b"x")], "10.0.0.1")

    assert found == [("x-forwarded-for", "10.0.0.1")]


def test_the_client_is_appended_to_who_was_forwarded_for() -> None:
    found = headers.metadata([(b"x-forwarded-for", b"1.2.3.4")], "10.0.0.1")

    assert found == [("x-forwarded-for", "1.2.3.4, 10.0.0.1")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer \xe9"),
        ("idempotency-key", "a\x01b"),
        ("idempotency-key", ""),
        ("grpc-metadata-connection", "close"),
        ("grpc-metadata-grpc-timeout", "1S"),
        ("grpc-metadata-host", "evil"),
        ("grpc-metadata-x-forwarded-for", "1.1.1.1"),
        ("grpc-metadata-authorization", "Bearer x"),
        ("grpc-metadata-a b", "x"),
        ("grpc-metadata-key-bin", "%%%"),
    ],
)
def test_a_value_that_metadata_cannot_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        headers.metadata([(name.encode("latin-1"), value.encode("latin-1"))], "10.0.0.1")

    assert caught.value.field == name


def test_two_different_keys_are_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        headers.metadata([(b"idempotency-key", b"a"), (b"Idempotency-Key", b"b")], "c")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1S", 1.0), ("100m", 0.1), ("2M", 120.0), ("1H", 3600.0), ("5u", 5e-6)]
)
def test_grpc_timeout_is_read_in_its_units(text: str, seconds: float) -> None:
    assert headers.timeout([(b"Grpc-Timeout", text.encode())]) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "-1S", "123456789S", "1.5S", "1s"])
def test_a_timeout_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        headers.timeout([(b"grpc-timeout", text.encode())])


def test_response_metadata_comes_back_prefixed_and_what_http_cannot_hold_does_not() -> None:
    found = headers.response(
        (("x-from", "here"), ("idempotent-replayed", "true"), ("k-bin", b"\x01")),
        (("grpc-status", "0"), ("connection", "close"), ("bad", "a\nb"), ("date", "x")),
        (("x-request-id", "the service's own"),),
    )

    assert found == [
        (b"grpc-metadata-x-from", b"here"),
        (b"idempotent-replayed", b"true"),
        (b"grpc-metadata-k-bin", b"AQ=="),
    ]
