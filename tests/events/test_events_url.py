"""A bus by its URL: what it is, and what is said of one that can't be."""

import sys

import pytest

from mesh.events.bus import BusError
from mesh.events.url import connect, without_password

EXTRAS = {
    "kafka": ("confluent_kafka", "kafka", "KafkaBus"),
    "amqp": ("aio_pika", "rabbitmq", "RabbitBus"),
    "amqps": ("aio_pika", "rabbitmq", "RabbitBus"),
    "nats": ("nats", "nats", "NatsBus"),
    "sqs": ("aiobotocore", "sqs", "SqsBus"),
}


@pytest.mark.parametrize("scheme", EXTRAS)
def test_the_scheme_chooses_the_bus(scheme: str) -> None:
    package, _, name = EXTRAS[scheme]
    pytest.importorskip(package)
    assert type(connect(f"{scheme}://somewhere")).__name__ == name


@pytest.mark.parametrize("scheme", EXTRAS)
def test_a_client_that_is_missing_is_named_with_its_extra(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, extra, _ = EXTRAS[scheme]
    for name in [*sys.modules]:
        if name.startswith("mesh.events.") or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BusError, match=rf"needs {package}: install .*'proxyless\[{extra}\]'"):
        connect(f"{scheme}://user:secret@somewhere")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "'': is no bus: expected kafka://, amqp://"),
        ("localhost:9092", "'localhost:9092': is no bus"),
        ("redis://somewhere", "'redis://somewhere': is no bus"),
        ("nats://", "'nats://': names no broker after ://"),
        ("kafka://h:9092?acks=1", "'kafka://h:9092?acks=1': acks is not to be set"),
        ("kafka://h:9092?acks", "'kafka://h:9092?acks': bad query field: 'acks'"),
        ("sqs://eu-west-1?color=red", "color is no setting: expected endpoint"),
        ("sqs://eu-west-1?endpoint=here", "endpoint 'here' is no http:// or https:// URL"),
        ("redis://me:secret@host", "'redis://host': is no bus"),
    ],
)
def test_a_url_that_is_no_bus_is_named_with_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(BusError) as caught:
        connect(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    told = without_password("kafka://ada:pw@h:1?sasl.password=pw&client.id=x&ssl.secret=pw")
    assert told == "kafka://h:1?sasl.password=...&client.id=x&ssl.secret=..."


async def test_a_setting_that_librdkafka_does_not_know_is_named() -> None:
    pytest.importorskip("confluent_kafka")
    with pytest.raises(BusError, match=r'No such configuration property: "colour"'):
        async with connect("kafka://127.0.0.1:1?colour=red"):
            pass
