"""
ProtoJSON both ways, from descriptors: JSON values in, messages out, and back.

    codec = Codec(pool)
    order = codec.read(Order.DESCRIPTOR, {"orderId": "o-1"})    # or Invalid, with the field's path
    codec.write(order)                                          # {"orderId": "o-1", "note": ""}

Names come in as lowerCamelCase or as the .proto has them and go out as lowerCamelCase; a field
without presence is always written.  What json_format takes without a right to (a field in both
spellings, "1_000", a sloppy time) is refused; what it writes is written alike.

    JSON value -> compiled reader -> message       the usual
                    else -> plan            -> message, or Invalid
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from gateway import compiled, scalars, wellknown
from gateway.invalid import Invalid, shown
from gateway.jsontext import MAX_DEPTH
from gateway.plan import Plan, ReadMessage

ANY = "google.protobuf.Any"


class Codec:
    """All messages of one descriptor pool; `others` know types of Any that it lacks."""

    def __init__(self, pool: Any, *others: Any) -> None:
        self._pool = pool
        self._others = others
        self._plans: dict[str, Plan] = {}
        self._compiled: dict[str, Callable[[Any], Any] | None] = {}
        self._writers: dict[str, Callable[[Any], Any]] = {}

    def read(self, descriptor: Descriptor, value: Any) -> Any:
        """A new message of the described type that holds what `value` says, or Invalid."""
        name = descriptor.full_name
        if name not in self._compiled:
            self._compiled[name] = compiled.reader(descriptor)
        if (read := self._compiled[name]) is not None:
            with suppress(*compiled.UNUSUAL):
                return read(value)
        return self.read_as_planned(descriptor, value)

    def read_as_planned(self, descriptor: Descriptor, value: Any) -> Any:
        """The same without the compiled reader, which only ever agrees."""
        message: Any = message_factory.GetMessageClass(descriptor)()
        self.reader(descriptor)(value, message, MAX_DEPTH)
        if not message.IsInitialized():  # proto2's required fields
            missing: list[str] = message.FindInitializationErrors()
            raise Invalid("is required", missing[0])
        return message

    def write(self, message: Any) -> Any:
        """The JSON value of `message`; ValueError when it holds what JSON cannot say."""
        return self.writer(message.DESCRIPTOR)(message)

    def plan(self, descriptor: Descriptor) -> Plan:
        plan = self._plans.get(descriptor.full_name)
        if plan is None:
            plan = self._plans[descriptor.full_name] = Plan()
            plan.fill(self, descriptor)
        return plan

    def reader(self, descriptor: Descriptor) -> ReadMessage:
        """What reads a JSON value into a message of this type."""
        name = descriptor.full_name
        if name in wellknown.TEXT:
            read = wellknown.TEXT[name][0]
            return lambda value, message, depth: read(value, message)
        if name in wellknown.FREE:
            return wellknown.FREE[name][0]
        if name in wellknown.WRAPPERS:
            scalar = scalars.reader(descriptor.fields_by_name["value"])

            def wrap(value: Any, message: Any, depth: int) -> None:
                message.value = scalar(value)

            return wrap
        return self._read_any if name == ANY else self.plan(descriptor).read

    def writer(self, descriptor: Descriptor) -> Callable[[Any], Any]:
        """What writes a message of this type as a JSON value."""
        name = descriptor.full_name
        write = self._writers.get(name)
        if write is None:
            write = self._writers[name] = self._make_writer(descriptor, name)
        return write

    def _make_writer(self, descriptor: Descriptor, name: str) -> Callable[[Any], Any]:
        if name in wellknown.TEXT:
            return wellknown.TEXT[name][1]
        if name in wellknown.FREE:
            return wellknown.FREE[name][1]
        if name in wellknown.WRAPPERS:
            write = scalars.writer(descriptor.fields_by_name["value"])
            return (lambda message: message.value) if write is None else lambda m: write(m.value)
        return self._write_any if name == ANY else compiled.writer(descriptor, self.writer)

    def _find(self, type_url: str, *pools: Any) -> Descriptor | None:
        for pool in pools:
            try:
                found: Descriptor = pool.FindMessageTypeByName(type_url.rsplit("/", 1)[-1])
            except KeyError:
                continue
            return found
        return None

    def _read_any(self, value: Any, message: Any, depth: int) -> None:
        if type(value) is not dict:
            raise Invalid(f"{shown(value)} is not an object")
        if not value:
            return
        url = value.get("@type")
        if not isinstance(url, str) or "/" not in url:
            raise Invalid(f"{shown(url)} is not a type's URL", "@type")
        descriptor = self._find(url, self._pool)
        if descriptor is None:
            raise Invalid(f"{shown(url)} is not a type known here", "@type")
        rest: Any = {key: item for key, item in value.items() if key != "@type"}
        if _bare(descriptor):
            if rest.keys() != {"value"}:
                raise Invalid(f'{shown(url)} is given by "@type" and "value" alone')
            rest = rest["value"]
        inner = message_factory.GetMessageClass(descriptor)()
        if depth <= 0:
            raise Invalid("is nested too deep")
        self.reader(descriptor)(rest, inner, depth - 1)
        message.type_url, message.value = url, inner.SerializeToString()

    def _write_any(self, message: Any) -> Any:
        if not message.type_url:
            return {}
        shape: dict[str, Any] = {"@type": message.type_url}
        descriptor = self._find(message.type_url, self._pool, *self._others)
        if descriptor is None:
            return shape | {"value": scalars.write_bytes(message.value)}
        try:
            inner = message_factory.GetMessageClass(descriptor).FromString(message.value)
        except DecodeError:
            return shape | {"value": scalars.write_bytes(message.value)}
        written = self.write(inner)
        return shape | ({"value": written} if _bare(descriptor) else written)


def _bare(descriptor: Descriptor) -> bool:
    """Whether the type's JSON is no object of its own fields, so that Any holds it as "value"."""
    name = descriptor.full_name
    special = (wellknown.TEXT, wellknown.FREE, wellknown.WRAPPERS, (ANY,))
    return any(name in names for names in special)
