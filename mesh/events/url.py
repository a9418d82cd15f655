"""
A URL chooses the bus: kafka://, amqp:// or amqps://, nats:// or tls://, sqs://.

    kafka://host:9092,host:9092[?<librdkafka property>=...]     extra kafka
    amqp://user:password@host:5672/[vhost]                      extra rabbitmq
    nats://user:password@host:4222                              extra nats
    sqs://<region>[?endpoint=<url>]                             extra sqs; credentials: as AWS's
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from mesh.events.bus import Bus, BusError

# By scheme: the module and the class, the package that it needs, the extra that brings it.
_BUSES = {
    "kafka": ("mesh.events.kafka", "KafkaBus", "confluent_kafka", "kafka"),
    "amqp": ("mesh.events.rabbitmq", "RabbitBus", "aio_pika", "rabbitmq"),
    "amqps": ("mesh.events.rabbitmq", "RabbitBus", "aio_pika", "rabbitmq"),
    "nats": ("mesh.events.nats", "NatsBus", "nats", "nats"),
    "tls": ("mesh.events.nats", "NatsBus", "nats", "nats"),
    "sqs": ("mesh.events.sqs", "SqsBus", "aiobotocore", "sqs"),
}


def connect(url: str) -> Bus:
    """The bus that `url` names; nothing is connected until it is entered.  BusError: a bad URL."""
    shown = without_password(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _BUSES:
        cause = f"is no bus: expected {', '.join(f'{name}://' for name in _BUSES)}"
        raise BusError(repr(shown), cause)
    if not rest.strip("/"):
        raise BusError(repr(shown), "names no broker after ://")
    module, name, package, extra = _BUSES[scheme]
    try:
        make = cast(Callable[[str], Bus], getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        cause = f"needs {package}: install proxyless with its extra, 'proxyless[{extra}]'"
        raise BusError(f"{scheme}://...", cause) from error
    try:
        return make(url)
    except ValueError as error:
        raise BusError(repr(shown), str(error)) from error


def without_password(url: str) -> str:
    """The URL as it may be shown: without what stands before the host, and secret settings."""
    shown: Any = re.sub(r"//[^/@]*@", "//", url)
    return re.sub(r"((?:password|secret)[^=&]*=)[^&]*", r"\1...", shown)
