"""
Readers and writers of messages as functions of their own: source made of a descriptor, once.

    read    {"orderId": "o-1", "total": {...}}  ->  Order(order_id="o-1", total={...})
    write   Order(...)  ->  {"orderId": "o-1", "note": ""}

A reader takes what nearly every client sends and no more: canonical names and values.  Of all else
(a field by its .proto name, null, "1.0" for an integer) it raises `Unusual`, and the plan reads the
value again from its beginning: it alone decides what is an error and what it is called.  So a
reader need not be complete, only never wrong.  A writer is complete.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from keyword import iskeyword
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway import scalars
from gateway.invalid import Invalid

F = FieldDescriptor
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  both sides of a subtraction are UTC
ReadValue = Callable[[Any], Any]
WriteValue = Callable[[Any], Any]


class Unusual(Exception):
    """Not what a reader takes; nothing is said about whether it is right."""


# What protobuf's own constructors and Python raise for values of the wrong kind.
UNUSUAL = (Unusual, Invalid, TypeError, ValueError, KeyError, AttributeError, RecursionError)


class _Source:
    """A function in the making: its lines, and the objects that they name."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []

    def name(self, thing: Any) -> str:
        """What the source calls an object that it is given."""
        name = f"_{len(self.names)}"
        self.names[name] = thing
        return name

    def late(self, find: Callable[[], WriteValue]) -> str:
        """What the source calls a function that is looked for when it is first called."""

        def first(value: Any) -> Any:
            found = self.names[name] = find()
            return found(value)

        name = self.name(first)
        return name

    def function(self, signature: str) -> Any:
        """The function, compiled."""
        text = "\n    ".join([f"def {signature}:", *self.lines])
        exec(compile(text, "<compiled from a descriptor>", "exec"), self.names)  # noqa: S102
        return self.names[signature.partition("(")[0]]


# -- readers


def reader(descriptor: Descriptor) -> ReadValue | None:
    """A function from a JSON object to a new message; None where every value is unusual."""
    arguments = _arguments(descriptor, {})
    if arguments is None:
        return None
    make: Any = message_factory.GetMessageClass(descriptor)

    def read(value: Any) -> Any:
        return make(**arguments(value))

    return read


def _arguments(descriptor: Descriptor, made: dict[str, ReadValue | None]) -> ReadValue | None:
    """A function from a JSON object to the arguments of the message's constructor."""
    name = descriptor.full_name
    if name not in made:
        made[name] = None  # one that holds itself has no bound to its depth: the plan's
        made[name] = _compile_arguments(descriptor, made)
    return made[name]


def _compile_arguments(
    descriptor: Descriptor, made: dict[str, ReadValue | None]
) -> ReadValue | None:
    if any(field.is_required for field in descriptor.fields):
        return None
    source = _Source()
    unusual = source.name(Unusual)
    known: list[str] = []
    pairs: list[str] = []
    for field in descriptor.fields:
        expression = _read(source, field, made)
        if expression is not None:
            known.append(field.json_name)
            pairs.append(f"{field.name!r}: {expression}")
    source.lines = [
        f"if type(value) is not dict or not value.keys() <= {source.name(frozenset(known))}:",
        f"    raise {unusual}",
        *_oneofs(descriptor, unusual),
        "get = value.get",
        # What is not there, or null, is None, which a constructor passes over.
        "return {" + ", ".join(pairs) + "}",
    ]
    read: ReadValue = source.function("read(value)")
    return read


def _oneofs(descriptor: Descriptor, unusual: str) -> Iterable[str]:
    for oneof in descriptor.oneofs:
        names = [field.json_name for field in oneof.fields]
        if len(names) > 1:
            yield "if " + " + ".join(f"({name!r} in value)" for name in names) + " > 1:"
            yield f"    raise {unusual}"


def _read(source: _Source, field: Any, made: dict[str, ReadValue | None]) -> str | None:
    """The expression that takes the field from `value`; None where the plan shall."""
    given = f"get({field.json_name!r})"
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        read = _entries_reader(message)
    elif (read := _value_reader(field, made)) is not None and field.is_repeated:
        read = _each(read)
    if read is None:
        return None
    if read is _text:
        return given
    if (kind := _KINDS.get(read)) is not None:  # looked at here: a call costs more than the look
        return f"(v if type(v := {given}) is {kind} or v is None else {source.name(read)}(v))"
    return f"(None if (v := {given}) is None else {source.name(read)}(v))"


def _entries_reader(entry: Descriptor) -> ReadValue | None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    if key.type != F.TYPE_STRING or value.message_type is not None:
        return None
    read = _value_reader(value, {})
    return None if read is None else _entries(read)


def _value_reader(field: Any, made: dict[str, ReadValue | None]) -> ReadValue | None:
    if field.message_type is None:
        return _scalar(field)
    message = field.message_type
    if message.full_name == "google.protobuf.Timestamp":
        return _timestamp
    special = message.file.package == "google.protobuf" or field.type == F.TYPE_GROUP
    return None if special else _arguments(message, made)


def _scalar(field: Any) -> ReadValue:
    if field.type == F.TYPE_STRING:
        return _text  # protobuf itself refuses what is no string or no UTF-8
    if field.type == F.TYPE_ENUM:
        return {value.name: value.number for value in field.enum_type.values}.__getitem__
    if field.type == F.TYPE_BOOL:
        return _truth
    if field.type in _SHORT:
        return _short
    return _long if field.type in _LONG else scalars.reader(field)


_SHORT = (F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32, F.TYPE_UINT32, F.TYPE_FIXED32)
_LONG = (F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64, F.TYPE_UINT64, F.TYPE_FIXED64)


def _text(value: Any) -> Any:
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise Unusual
    return value


def _short(value: Any) -> int:
    # True is an int to protobuf.
    if type(value) is not int:
        raise Unusual
    return value


_KINDS: dict[ReadValue, str] = {_truth: "bool", _short: "int"}


def _long(value: Any) -> int:
    """A 64-bit integer in the form in which ProtoJSON writes it: its digits in quotes."""
    if type(value) is not str:  # 1e999 is infinite by now, and no int at all
        raise Unusual
    number = int(value)
    if str(number) != value:
        raise Unusual
    return number


def _timestamp(value: Any) -> dict[str, int]:
    """A time of UTC."""
    if type(value) is not str or _TIMESTAMP.fullmatch(value) is None:
        raise Unusual
    since = dt.datetime.fromisoformat(value[:19]) - _EPOCH
    fraction = value[20:-1]
    nanos = int(fraction.ljust(9, "0")) if fraction else 0
    return {"seconds": since.days * 86400 + since.seconds, "nanos": nanos}


def _each(read: ReadValue) -> ReadValue:
    def items(value: Any) -> list[Any]:
        if type(value) is not list or None in value:
            raise Unusual
        return value if read is _text else [read(item) for item in value]

    return items


def _entries(read: ReadValue) -> ReadValue:
    def entries(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Unusual
        return {key: read(item) for key, item in value.items()}

    return entries


# -- writers


def writer(descriptor: Descriptor, message_writer: Callable[[Descriptor], WriteValue]) -> Any:
    """
    A function from a message to its JSON object.

    `message_writer` knows the writers of other types; it is asked at their first value, since
    types hold each other.
    """
    source = _Source()
    source.lines = ["out = {}"]
    for field in descriptor.fields:
        at = f"getattr(m, {field.name!r})" if iskeyword(field.name) else f"m.{field.name}"
        written = f"out[{field.json_name!r}] = {_write(source, field, at, message_writer)}"
        if field.has_presence:
            source.lines += [f"if m.HasField({field.name!r}):", f"    {written}"]
        else:
            source.lines.append(written)
    source.lines.append("return out")
    return source.function("write(m)")


def _write(
    source: _Source, field: Any, at: str, message_writer: Callable[[Descriptor], WriteValue]
) -> str:
    """The expression that makes JSON of a field's value."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = message.fields_by_name["key"], message.fields_by_name["value"]
        name = "str(k).lower()" if key.type == F.TYPE_BOOL else "str(k)"
        entry = f"{at}[k]"
        return f"{{{name}: {_write_one(source, value, entry, message_writer)} for k in {at}}}"
    if field.is_repeated:
        one = _write_one(source, field, "v", message_writer)
        return f"list({at})" if one == "v" else f"[{one} for v in {at}]"
    return _write_one(source, field, at, message_writer)


def _write_one(
    source: _Source, field: Any, given: str, message_writer: Callable[[Descriptor], WriteValue]
) -> str:
    if field.message_type is not None:
        return f"{source.late(lambda: message_writer(field.message_type))}({given})"
    write = scalars.writer(field)
    return given if write is None else f"{source.name(write)}({given})"
