"""
Our ProtoJSON beside json_format's: one text, two readers, and every difference there may be.

    nice .venv/bin/python -m tests.gateway.differential 1000000      # and the first seed

A difference that no row of DIFFERENCES explains is a bug, ours or a new one of theirs.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from dataclasses import dataclass

from google.protobuf import json_format

from gateway.invalid import Invalid
from gateway.jsontext import dumps, loads
from tests.gateway import kitchen
from tests.gateway.json_texts import text
from tests.gateway.random_messages import DESCRIPTOR, All

CONTRACT = kitchen.contract()
CODEC = CONTRACT.codec
OURS_REFUSES, THEIRS_REFUSES = "ours refuses", "theirs refuses"


@dataclass(frozen=True, slots=True)
class Difference:
    """One kind of text that the two read differently, and why that is right."""

    who: str
    said: str  # a pattern of what the one that refuses says
    example: bytes
    why: str


def refused(said: str, example: bytes, why: str) -> Difference:
    return Difference(OURS_REFUSES, said, example, why)


DIFFERENCES = (
    refused('bare NaN|bare -?Infinity|bare "', b'{"anyValue": NaN}', "RFC 8259 has no such word"),
    refused(
        "is given twice, also as", b'{"stringOne": "a", "string_one": "b"}', "which one counts?"
    ),
    refused(
        "is not a time like",
        b'{"time": "2026-1-2T03:04:05Z"}',
        "RFC 3339 has two digits each, capital T and Z, and +hh:mm",
    ),
    refused(
        "is not a time that exists",
        b'{"time": "2026-01-02T03:04:05+24:00"}',
        "an offset has less than 24 hours",
    ),
    refused("is not a duration like", b'{"span": "+1s"}', 'ProtoJSON: digits, a fraction, "s"'),
    refused(
        "is longer than 10000 years",
        b'{"span": "-315576000000.5s"}',
        "duration.proto bounds it; what cannot be written again is not read",
    ),
    refused(
        "is not a path of a field mask",
        b'{"mask": "a,,b"}',
        "an empty path, or one with an underscore, comes back as another",
    ),
    refused("is not base64", b'{"bytesOne": "A Q="}', "characters outside of both alphabets"),
    refused(
        "is not an u?int(32|64)$",
        b'{"int32One": "1_000"}',
        "Python's int() reads 1_000, 01, +1 and other alphabets' digits; an enum is no 0.1 or true",
    ),
    refused(
        "is not a number$", b'{"doubleOne": "1_000"}', "Python's float() reads 1_000, inf, true"
    ),
    refused("is not an integer$", b'{"int32ToString": {"01": "x"}}', "a key has one spelling"),
    refused("is not a value of Color", b'{"color": "1"}', "a string is an enum's name"),
    refused(
        'is given by "@type" and "value" alone',
        b'{"boxed": {"@type": "x/google.protobuf.Int64Value", "value": "7", "nope": 1}}',
        "unknown members of an Any are unknown fields",
    ),
    refused(
        "is out of the range of (double|float)",
        b'{"doubleOne": "1e400"}',
        "a number in quotes is a number: 1e400 is not Infinity",
    ),
    refused("is not a value of NullValue", b'{"nothing": 7}', "null has one value"),
    refused("is out of the range of int32", b'{"color": 4294967296}', "an enum is an int32"),
    refused(
        '^(an array|"") is not an object',
        b"[]",
        'whatever is empty is no message: [], "" and the like',
    ),
    refused(
        "is nested too deep",
        b'{"free": ' + b'{"a": ' * 45 + b"{}" + b"}" * 46,
        "json_format does not count a Struct's entries; what it made cannot be decoded",
    ),
    Difference(
        THEIRS_REFUSES,
        "Float value too large",
        b'{"floatOne": 3.4028235e38}',
        "FLT_MAX as everybody prints it rounds to FLT_MAX",
    ),
    Difference(
        THEIRS_REFUSES,
        "AttributeError|TypeError",
        b'{"anyValueMany": null}',
        "json_format fails on null for a list of Value; null is an absent field",
    ),
)


def ours(raw: bytes) -> bytes | Invalid:
    try:
        message = CODEC.read(DESCRIPTOR, loads(raw))
    except Invalid as error:
        return error
    found: bytes = message.SerializeToString(deterministic=True)
    return found


def theirs(raw: bytes) -> bytes | Exception:
    try:
        message = json_format.Parse(raw, All(), descriptor_pool=CONTRACT.pool)
    except Exception as error:  # noqa: BLE001  it raises whatever happens to it
        return error
    found: bytes = message.SerializeToString(deterministic=True)
    return found


def compare(raw: bytes) -> str:
    """What came of it: "same", "both refuse", or a difference's pattern; AssertionError else."""
    mine, reference = ours(raw), theirs(raw)
    if isinstance(mine, bytes) and isinstance(reference, bytes):
        assert mine == reference, raw
        assert back(mine) == mine, raw
        return "same"
    if isinstance(mine, Invalid) and isinstance(reference, Exception):
        return "both refuse"
    who = OURS_REFUSES if isinstance(mine, Invalid) else THEIRS_REFUSES
    said = mine.why if isinstance(mine, Invalid) else str(reference)
    for row in DIFFERENCES:
        if row.who == who and re.search(row.said, said):
            return row.said
    raise AssertionError(f"nobody explains that {who}: {said}: {raw!r}")


def back(raw: bytes) -> bytes:
    """The message once it was written as JSON and read again."""
    message = All.FromString(raw)  # what no protobuf library could decode was not to be read
    again: bytes = CODEC.read(DESCRIPTOR, loads(dumps(CODEC.write(message)))).SerializeToString(
        deterministic=True
    )
    return again


def main(count: int, first: int = 0) -> None:
    counts = Counter(compare(text(random.Random(seed))) for seed in range(first, first + count))
    for kind, number in counts.most_common():
        print(f"{number:9d}  {kind}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
