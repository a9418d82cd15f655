"""
One scalar at a time: a JSON value to what protobuf stores, and back.

`reader(field)` and `writer(field)` choose by the field's type, once; what they return runs per
value.  A reader raises Invalid for whatever ProtoJSON does not allow, also where json_format is
lenient: "1_000", " 5", "٣", bare NaN, base64 with foreign characters, an enum's number in quotes.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.invalid import Invalid, shown

Reader = Callable[[Any], Any]
Writer = Callable[[Any], Any]

F = FieldDescriptor
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,3})?")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BASE64 = bytes.maketrans(b"-_", b"+/")


def reader(field: Any) -> Reader:
    """What turns a JSON value into a value of `field` (which is no message)."""
    if field.type == F.TYPE_ENUM:
        return enum_reader(field.enum_type)
    return _READERS[field.type]


def writer(field: Any) -> Writer | None:
    """What turns a value of `field` into a JSON value; None when it is one already."""
    if field.type == F.TYPE_ENUM:
        return enum_writer(field.enum_type)
    return _WRITERS.get(field.type)


def _integer(name: str, low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if type(value) is int:
            number = value
        elif type(value) is float and value.is_integer():
            number = int(value)
        elif type(value) is str and _NUMBER.fullmatch(value):
            exact = Decimal(value)
            # An exponent makes few characters a number of many digits: never build it to refuse it.
            if exact.adjusted() > 20 or exact != exact.to_integral_value():
                raise Invalid(f"{shown(value)} is not an {name}")
            number = int(exact)
        else:
            raise Invalid(f"{shown(value)} is not an {name}")
        if not low <= number <= high:
            raise Invalid(f"{shown(value)} is out of the range of {name}")
        return number

    return read


def double(value: Any) -> float:
    if type(value) is float:
        number = value
    elif type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    elif type(value) is str and value in _FLOATS:
        return _FLOATS[value]
    elif type(value) is str and _NUMBER.fullmatch(value):
        number = float(value)
    else:
        raise Invalid(f"{shown(value)} is not a number")
    if math.isinf(number):
        raise Invalid(f"{shown(value)} is out of the range of double")
    return number


def _float(value: Any) -> float:
    number = double(value)
    try:
        # Rounds to the nearest float first: the printed form of FLT_MAX is a little above it.
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        raise Invalid(f"{shown(value)} is out of the range of float") from None


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Invalid(f"{shown(value)} is not true or false")
    return value


def text(value: Any) -> str:
    if type(value) is not str:
        raise Invalid(f"{shown(value)} is not a string")
    if not value.isascii() and _SURROGATE.search(value):
        raise Invalid("the string holds half of a surrogate pair")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not str or not value.isascii():
        raise Invalid(f"{shown(value)} is not base64")
    data = value.rstrip("=").encode().translate(_BASE64)
    padding = len(value) - len(data)
    if padding and (len(value) % 4 or padding > 2):
        raise Invalid(f"{shown(value)} is not base64")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error:
        raise Invalid(f"{shown(value)} is not base64") from None


def enum_reader(enum: EnumDescriptor) -> Reader:
    """A name of the enum, or a number; an open enum keeps a number that it does not know."""
    numbers = {value.name: value.number for value in enum.values}
    # null is all that NullValue's JSON can say.
    closed = enum.is_closed or enum.full_name == "google.protobuf.NullValue"
    known = frozenset(numbers.values()) if closed else None
    integer = _integer("int32", -(2**31), 2**31 - 1)

    def read(value: Any) -> int:
        if type(value) is str:
            number = numbers.get(value)
            if number is None:
                raise Invalid(f"{shown(value)} is not a value of {enum.name}")
            return number
        number = integer(value)
        if known is not None and number not in known:
            raise Invalid(f"{number} is not a value of {enum.name}")
        return int(number)

    if enum.full_name == "google.protobuf.NullValue":
        return lambda value: 0 if value is None else read(value)
    return read


def enum_writer(enum: EnumDescriptor) -> Writer:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _: None
    # Of aliases the first is the name.
    names = {value.number: value.name for value in reversed(enum.values)}

    def write(number: int) -> Any:
        return names.get(number, number)

    return write


def _write_double(number: float) -> Any:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _write_float(number: float) -> Any:
    if not math.isfinite(number):
        return _write_double(number)
    packed = struct.pack("<f", number)
    # The shortest decimal that reads back as the same float: "0.1", not "0.10000000149011612".
    for digits in (6, 7, 8):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.pack("<f", short) == packed:
                return short
        except OverflowError:
            continue
    return float(f"{number:.9g}")


def write_bytes(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


_INT32 = _integer("int32", -(2**31), 2**31 - 1)
_UINT32 = _integer("uint32", 0, 2**32 - 1)
_INT64 = _integer("int64", -(2**63), 2**63 - 1)
_UINT64 = _integer("uint64", 0, 2**64 - 1)
_READERS: dict[int, Reader] = {
    F.TYPE_INT32: _INT32,
    F.TYPE_SINT32: _INT32,
    F.TYPE_SFIXED32: _INT32,
    F.TYPE_UINT32: _UINT32,
    F.TYPE_FIXED32: _UINT32,
    F.TYPE_INT64: _INT64,
    F.TYPE_SINT64: _INT64,
    F.TYPE_SFIXED64: _INT64,
    F.TYPE_UINT64: _UINT64,
    F.TYPE_FIXED64: _UINT64,
    F.TYPE_DOUBLE: double,
    F.TYPE_FLOAT: _float,
    F.TYPE_BOOL: _bool,
    F.TYPE_STRING: text,
    F.TYPE_BYTES: _bytes,
}
# "int64, fixed64, uint64: string ... JSON value will be a decimal string."  — ProtoJSON
_LONG = (F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64, F.TYPE_UINT64, F.TYPE_FIXED64)
_WRITERS: dict[int, Writer] = {
    **dict.fromkeys(_LONG, str),
    F.TYPE_DOUBLE: _write_double,
    F.TYPE_FLOAT: _write_float,
    F.TYPE_BYTES: write_bytes,
}
