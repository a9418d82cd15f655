"""Pushback is read as protobuf writes it, and whatever is no protobuf is only no advice."""

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given
from hypothesis import strategies as some

from mesh.details import DETAILS
from mesh.errors import CallFailed, Code
from mesh.policy.pushback import Pushback, pushback


def failure(data):
    return CallFailed(Code.UNAVAILABLE, trailing=[(DETAILS, data)])


def packed(*messages):
    status = status_pb2.Status(code=14, message="later")
    for message in messages:
        detail = any_pb2.Any()
        detail.Pack(message)
        status.details.append(detail)
    return status.SerializeToString()


@given(seconds=some.integers(0, 299), nanos=some.integers(0, 999_999_999))
def test_retry_info_is_read_as_protobuf_wrote_it(seconds, nanos):
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos

    found = pushback(failure(packed(error_details_pb2.BadRequest(), info)))

    assert found == Pushback(seconds + nanos / 1e9)


@given(reason=some.text(), domain=some.text())
def test_error_info_is_read_as_protobuf_wrote_it(reason, domain):
    failed = failure(packed(error_details_pb2.ErrorInfo(reason=reason, domain=domain)))
    assert pushback(failed) is None
    assert (failed.reason, failed.domain) == (reason, domain)


def test_a_negative_or_endless_delay_is_no_advice():
    for seconds in (-5, 10**9):
        info = error_details_pb2.RetryInfo()
        info.retry_delay.seconds = seconds
        assert pushback(failure(packed(info))) is None


@given(some.binary(max_size=200))
def test_garbled_details_are_no_advice_and_no_error(data):
    pushback(failure(data))


@given(some.data())
def test_truncated_details_are_no_error(data):
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds = 7
    whole = packed(error_details_pb2.ErrorInfo(reason="R"), info)
    pushback(failure(whole[: data.draw(some.integers(0, len(whole)))]))


@given(some.text(max_size=12))
@example("-1")
@example("-0.5")
@example("2147483647")
@example("2147483648")
def test_a_pushback_that_is_no_int32_asks_for_no_retry(text):
    found = pushback(CallFailed(Code.UNAVAILABLE, trailing=[("grpc-retry-pushback-ms", text)]))
    plain = text.isascii() and text.isdigit() and int(text) < 2**31
    assert found == (Pushback(int(text) / 1000) if plain else Pushback(None))


def test_the_header_beats_the_details():
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds = 7
    failed = CallFailed(
        Code.UNAVAILABLE,
        trailing=[("grpc-retry-pushback-ms", "20"), (DETAILS, packed(info))],
    )
    assert pushback(failed) == Pushback(0.02)
