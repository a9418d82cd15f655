"""
The JSON Schema of one value that is no message, by the use that is made of it.

    REPLY   as it is printed: an int64 is a string, an enum its name
    INPUT   as a body may say it: numbers also in strings, enums also by number
    TEXT    as a path or a query says it: text, which a schema still gives a type to
"""

from __future__ import annotations

import re
from enum import Enum
from math import ceil, floor
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.allowed import Allowed
from gateway.digits import between

Schema = dict[str, Any]
F = FieldDescriptor


class Use(Enum):
    """Which way a value goes."""

    REPLY = "reply"
    INPUT = "input"
    TEXT = "text"


INTEGERS: dict[int, tuple[str, int, int]] = {
    **dict.fromkeys((F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32), ("int32", -(2**31), 2**31 - 1)),
    **dict.fromkeys((F.TYPE_UINT32, F.TYPE_FIXED32), ("uint32", 0, 2**32 - 1)),
    **dict.fromkeys((F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64), ("int64", -(2**63), 2**63 - 1)),
    **dict.fromkeys((F.TYPE_UINT64, F.TYPE_FIXED64), ("uint64", 0, 2**64 - 1)),
}
FLOATS = {
    F.TYPE_DOUBLE: ("double", 1.7976931348623157e308),
    F.TYPE_FLOAT: ("float", 3.4028234663852886e38),
}
WORDS = ("NaN", "Infinity", "-Infinity")
_WORD_OR_NUMBER = r"^(?:NaN|-?Infinity|-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?)$"
_FOUR = "[A-Za-z0-9+/_-]"
BASE64 = f"^(?:{_FOUR}{{4}})*(?:{_FOUR}{{2}}(?:==)?|{_FOUR}{{3}}=?)?$"


def scalar(field: Any, use: Use, rule: Allowed) -> Schema:
    """The schema of one value of `field`, which is no message."""
    if field.enum_type is not None:
        return enum(field.enum_type, use, rule)
    if field.type in INTEGERS:
        return integer(field.type, use, rule)
    if field.type in FLOATS:
        return number(field.type, use, rule)
    if field.type == F.TYPE_BOOL:
        return {"type": "boolean"} | (
            {"enum": [True]} if use is Use.INPUT and rule.required else {}
        )
    return text(field.type, rule)


def integer(kind: int, use: Use, rule: Allowed) -> Schema:
    name, low, high = INTEGERS[kind]
    if use is Use.REPLY:
        if name.endswith("64"):
            pattern = between(low, high)
            return {"type": "string", "format": name, "pattern": pattern, "examples": ["7"]}
        return {"type": "integer", "format": name}
    low, high = _bounds(rule, low, high)
    as_number: Schema = {"type": "integer", "format": name, "minimum": low, "maximum": high}
    as_text: Schema = {"type": "string", "pattern": between(low, high)}
    if rule.only is not None:
        as_number["enum"], as_text["enum"] = list(rule.only), list(map(str, rule.only))
    never = sorted(
        number for number in {*rule.never, *([0] if rule.required else [])} if low <= number <= high
    )
    if never:
        as_number["not"] = {"enum": never}
        as_text["not"] = {"enum": list(map(str, never))}
    if use is Use.INPUT:
        return {"anyOf": [as_number, as_text]}
    return as_text if name.endswith("64") else as_number


def _bounds(rule: Allowed, low: int, high: int) -> tuple[int, int]:
    lows = [low, *([ceil(rule.low)] if rule.low is not None else [])]
    lows += [floor(rule.above) + 1] if rule.above is not None else []
    highs = [high, *([floor(rule.high)] if rule.high is not None else [])]
    highs += [ceil(rule.below) - 1] if rule.below is not None else []
    return (max(lows), min(highs)) if max(lows) <= min(highs) else (low, high)


def number(kind: int, use: Use, rule: Allowed) -> Schema:
    name, most = FLOATS[kind]
    if use is Use.REPLY:
        return {
            "format": name,
            "anyOf": [{"type": "number"}, {"type": "string", "enum": list(WORDS)}],
        }
    bounds = {
        "minimum": -most if rule.low is None else rule.low,
        "maximum": most if rule.high is None else rule.high,
        **({"exclusiveMinimum": rule.above} if rule.above is not None else {}),
        **({"exclusiveMaximum": rule.below} if rule.below is not None else {}),
    }
    bounded = rule.finite or any(v is not None for v in (rule.low, rule.high, rule.above))
    schema: Schema = {"type": "number", "format": name, **bounds}
    if not bounded and rule.below is None:
        schema |= {"type": ["number", "string"], "pattern": _WORD_OR_NUMBER}
    if rule.only is not None:
        schema["enum"] = list(rule.only)
    never = [*rule.never, *([0] if rule.required else [])]
    return schema | ({"not": {"enum": never}} if never else {})


def text(kind: int, rule: Allowed) -> Schema:
    """A string, or bytes in base64."""
    schema: Schema = {"type": "string"}
    least = max(rule.min_length or 0, 1 if rule.required else 0)
    most = rule.max_length
    if kind == F.TYPE_BYTES:
        schema |= {"contentEncoding": "base64", "pattern": BASE64}
        least, most = ceil(least * 4 / 3), None if most is None else 4 * ceil(most / 3)
    if least:
        schema["minLength"] = least
    if most is not None:
        schema["maxLength"] = most
    if kind == F.TYPE_BYTES:
        return schema
    if rule.format:
        schema["format"] = rule.format
    if len(rule.patterns) == 1:
        schema["pattern"] = rule.patterns[0]
    elif rule.patterns:
        schema["allOf"] = [{"pattern": pattern} for pattern in rule.patterns]
    if rule.only is not None:
        schema["enum"] = list(rule.only)
    unwanted: list[Schema] = [{"pattern": pattern} for pattern in rule.absent]
    unwanted += [{"enum": list(rule.never)}] if rule.never else []
    if len(unwanted) == 1:
        schema["not"] = unwanted[0]
    elif unwanted:
        schema["not"] = {"anyOf": unwanted}
    return schema


def enum(kind: EnumDescriptor, use: Use, rule: Allowed) -> Schema:
    """Names; where it is sent also numbers, unless the rules say `defined_only` any at all."""
    if kind.full_name == "google.protobuf.NullValue":
        return {"type": "null"}
    never = {*rule.never, *([0] if rule.required else [])}
    numbers = [
        value.number
        for value in kind.values
        if (rule.only is None or value.number in rule.only) and value.number not in never
    ]
    names = [value.name for value in kind.values if value.number in numbers]
    if use is Use.REPLY:
        return {"type": "string", "enum": [value.name for value in kind.values]}
    if rule.defined_only or rule.only is not None or kind.is_closed:
        return {"type": ["string", "integer"], "enum": [*names, *dict.fromkeys(numbers)]}
    by_number: Schema = {"type": "integer", "format": "int32"}
    by_number |= {"minimum": -(2**31), "maximum": 2**31 - 1}
    if never:
        by_number["not"] = {"enum": sorted(never)}
    return {"anyOf": [{"type": "string", "enum": names}, by_number]}


def zero_passes(field: Any, rule: Allowed) -> bool:
    """Whether a field that is left out, and has no presence, obeys its rules."""
    if rule.zero_passes or field.has_presence:
        return not rule.required
    if rule.required or (rule.min_items if field.is_repeated else 0):
        return False
    if field.is_repeated:
        return True
    if field.type in (F.TYPE_STRING, F.TYPE_BYTES):
        return not (rule.min_length or rule.format or rule.only or "" in rule.never) and all(
            _matches_nothing(pattern) for pattern in rule.patterns
        )
    if rule.only is not None:
        return 0 in rule.only
    return (
        0 not in rule.never
        and (rule.low is None or rule.low <= 0)
        and (rule.high is None or rule.high >= 0)
        and (rule.above is None or rule.above < 0)
        and (rule.below is None or rule.below > 0)
    )


def _matches_nothing(pattern: str) -> bool:
    try:
        return re.search(pattern, "") is not None
    except re.error:  # RE2 knows words that Python does not
        return True
