"""
The well-known types whose JSON is not an object of their fields.

    Timestamp "2026-01-02T03:04:05.678Z"    Duration "1.500s"      FieldMask "note,shippingAddress"
    wrappers: the bare value                Struct, Value, ListValue: the JSON itself

Any is in codec.py, since it needs the pool.  Each entry of TEXT reads a string into a message and
writes the message's string; query and path parameters use the same entries.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from typing import Any

from gateway.invalid import Invalid, shown
from gateway.scalars import double, text

_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_MASK = re.compile(r"[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UTC_EPOCH = _EPOCH.replace(tzinfo=None)
_SECONDS = {"min": -62135596800, "max": 253402300799}  # 0001-01-01 to 9999-12-31
_MAX_DURATION = 315_576_000_000


def read_timestamp(value: Any, message: Any) -> None:
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid(f"{shown(value)} is not a time like 2026-01-02T03:04:05Z")
    moment, fraction, sign, hours, minutes = match.groups()
    try:
        since = dt.datetime.fromisoformat(moment + "+00:00") - _EPOCH
    except ValueError:
        raise Invalid(f"{shown(value)} is not a time that exists") from None
    seconds = since.days * 86400 + since.seconds
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise Invalid(f"{shown(value)} is not a time that exists")
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds -= offset if sign == "+" else -offset
    if not _SECONDS["min"] <= seconds <= _SECONDS["max"]:
        raise Invalid(f"{shown(value)} is not between the years 1 and 9999")
    message.seconds = seconds
    message.nanos = _nanos(fraction)


def write_timestamp(message: Any) -> str:
    seconds, nanos = message.seconds, message.nanos
    if not (_SECONDS["min"] <= seconds <= _SECONDS["max"] and 0 <= nanos < 10**9):
        raise ValueError(f"Timestamp(seconds={seconds}, nanos={nanos}) is no time")
    moment = _UTC_EPOCH + dt.timedelta(seconds=seconds)
    return moment.isoformat() + _fraction(nanos) + "Z"


def read_duration(value: Any, message: Any) -> None:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid(f'{shown(value)} is not a duration like "1.5s"')
    minus, whole, fraction = match.groups()
    seconds, nanos = int(whole), _nanos(fraction)
    if seconds > _MAX_DURATION or (seconds == _MAX_DURATION and nanos):
        raise Invalid(f"{shown(value)} is longer than 10000 years")
    message.seconds = -seconds if minus else seconds
    message.nanos = -nanos if minus else nanos


def write_duration(message: Any) -> str:
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _MAX_DURATION or abs(nanos) >= 10**9 or seconds * nanos < 0:
        raise ValueError(f"Duration(seconds={seconds}, nanos={nanos}) is no duration")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def read_mask(value: Any, message: Any) -> None:
    """ProtoJSON's form: lowerCamelCase paths, joined by commas."""
    if not isinstance(value, str):
        raise Invalid(f"{shown(value)} is not a field mask")
    paths = value.split(",") if value else []
    for path in paths:
        if not _MASK.fullmatch(path):
            raise Invalid(f"{shown(path)} is not a path of a field mask")
        message.paths.append(snake(path))


def write_mask(message: Any) -> str:
    return ",".join(camel(path) for path in message.paths)


def read_value(value: Any, message: Any, depth: int) -> None:
    """
    google.protobuf.Value, from any JSON.

    `depth` is how many messages may still be nested, as protobuf counts them: an array is a
    ListValue in a Value, an object a Struct with an entry for each Value.
    """
    _descend(depth)
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = text(value)
    elif isinstance(value, int | float):
        message.number_value = double(value)
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        read_struct(value, message.struct_value, depth - 1)
    else:
        message.list_value.SetInParent()
        read_list(value, message.list_value, depth - 1)


def read_struct(value: Any, message: Any, depth: int) -> None:
    if not isinstance(value, dict):
        raise Invalid(f"{shown(value)} is not an object")
    _descend(depth)
    for key, item in value.items():
        try:
            read_value(item, message.fields[text(key)], depth - 2)
        except Invalid as error:
            raise error.under(key) from None


def read_list(value: Any, message: Any, depth: int) -> None:
    if not isinstance(value, list):
        raise Invalid(f"{shown(value)} is not an array")
    _descend(depth)
    for index, item in enumerate(value):
        try:
            read_value(item, message.values.add(), depth - 1)
        except Invalid as error:
            raise error.under(index) from None


def write_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return write_struct(message.struct_value)
    if kind == "list_value":
        return write_list(message.list_value)
    value = getattr(message, kind)
    if kind == "number_value" and not math.isfinite(value):
        raise ValueError(f"Value holds {value}, which JSON has no number for")
    return value


def write_struct(message: Any) -> Any:
    return {key: write_value(item) for key, item in message.fields.items()}


def write_list(message: Any) -> Any:
    return [write_value(item) for item in message.values]


def camel(path: str) -> str:
    """The path as JSON spells it; one that would not come back the same is an error."""
    if not re.fullmatch(r"(?:[a-z0-9.]|_[a-z])*", path):
        raise ValueError(f"the path {path!r} has no lowerCamelCase form")
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), path)


def snake(path: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), path)


def _nanos(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    if not nanos % 1_000_000:
        return f".{nanos // 1_000_000:03d}"
    if not nanos % 1_000:
        return f".{nanos // 1_000:06d}"
    return f".{nanos:09d}"


def _descend(depth: int) -> None:
    if depth <= 0:
        raise Invalid("is nested too deep")


Read = Callable[[Any, Any], None]
Write = Callable[[Any], str]
TEXT: dict[str, tuple[Read, Write]] = {
    "google.protobuf.Timestamp": (read_timestamp, write_timestamp),
    "google.protobuf.Duration": (read_duration, write_duration),
    "google.protobuf.FieldMask": (read_mask, write_mask),
}
FREE: dict[str, tuple[Callable[[Any, Any, int], None], Callable[[Any], Any]]] = {
    "google.protobuf.Value": (read_value, write_value),
    "google.protobuf.Struct": (read_struct, write_struct),
    "google.protobuf.ListValue": (read_list, write_list),
}
WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
