"""Random texts that are nearly JSON of the kitchen's message, by a seed: what a fuzzer feeds."""

from __future__ import annotations

import json
import random
from typing import Any

from gateway.plan import is_map
from tests.gateway import kitchen
from tests.gateway.random_messages import DESCRIPTOR, F

KINDS = {getattr(F, f"TYPE_{kind.upper()}"): kind for kind in kitchen.SCALARS}
NUMBERS = [
    *(
        "0",
        "-0",
        "1",
        "-1",
        "5",
        "77",
        "1.0",
        "1.5",
        "-1.5",
        "1e2",
        "1E2",
        "1e-2",
        "1e400",
        "-1e400",
    ),
    *("0.1", "1e308", "1e309", "3.4028235e38", "3.4028234663852886e38", "3.4028236e38", "1e39"),
    *("1e-45", "1e-46", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295"),
    *("4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615"),
    *("18446744073709551616", "9007199254740993", "1e18", "1e19", "12345678901234567890123"),
    *("01", "+1", "1.", ".5", "1e", "0x1", "1_000", "--1", "1e5.5", "NaN", "Infinity", "-Infinity"),
]
WORDS = [
    *("true", "false", "null", "{}", "[]", '""', "[null]", "[[]]", "[1]", "{", "]", "'a'", "nul"),
    *('{"a": 1}', '{"": null}', '"\\ud83d\\ude00"', '"\\ud800"', '"\\u0000"', '"\\x"', '"\t"'),
]
STRINGS = [
    *("RED", "CRIMSON", "red", "PUCE", "MINUS", "NULL_VALUE", "a", "true", "True", "false", "é漢"),
    *("AQI=", "AQI", "AQ==", "AQ=", "A", "_-8=", "+/8=", "AQ==AQ==", "A Q=", "AR==", "NaN", "nan"),
    *(
        "Infinity",
        "-Infinity",
        "inf",
        "-inf",
        "infinity",
        "1",
        "-1",
        " 1",
        "1 ",
        "1.0",
        "1e2",
        "01",
    ),
    *("1_0", "٣", "+1", "0x10", "", " ", "1e400", "1.5", "9223372036854775808", "-0", "1e-2"),
    *("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05+01:00"),
    *("2026-1-2T03:04:05Z", "2026-01-02t03:04:05z", "2026-01-02 03:04:05Z", "2026-01-02T03:04Z"),
    *(
        "2026-01-02T03:04:05",
        "2026-02-30T03:04:05Z",
        "2026-01-02T24:00:00Z",
        "0001-01-01T00:00:00Z",
    ),
    *("0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-01-02T03:04:60Z"),
    *("2026-01-02T03:04:05.1234567890Z", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05-23:59"),
    *("0001-01-01T00:00:00+00:01", "2026-01-02T03:04:05+1:00", "2026-01-02T03:04:05+24:00"),
    *("1.5s", "1s", "-1s", "-0.5s", "1", "1.s", ".5s", "1.0000000001s", "315576000000s", "1h"),
    *("315576000001s", "-315576000000.5s", "+1s", "1S", "1 s", "1e2s", "--1s", "s", "0s", "-0s"),
    *("a,bC", "a.bC", "a_b", "A", "a,,b", ",a", "a.", "aB1", "a1b", "", "*", "fooBar,baz", "a B"),
    *("type.googleapis.com/kitchen.Plate", "kitchen.Plate", "/kitchen.Plate", "x/no.Such", "x/"),
]
ANY = [
    '{"@type": "x/kitchen.Plate"%s}',
    '{"@type": "x/kitchen.Plate", "size": "1"%s}',
    '{"size": 1, "@type": "x/kitchen.Plate"%s}',
    '{"@type": "x/google.protobuf.Timestamp", "value": "2026-01-02T03:04:05Z"%s}',
    '{"@type": "x/google.protobuf.Int64Value", "value": "7"%s}',
    '{"@type": "x/google.protobuf.Struct", "value": {"a": [1, null]}%s}',
    '{"@type": "x/google.protobuf.Any", "value": {"@type": "x/kitchen.Plate"}%s}',
    '{"@type": "x/google.protobuf.Empty"%s}',
    '{"@type": ""%s}',
    '{"@type": 1%s}',
]


def text(rng: random.Random) -> bytes:
    """One input."""
    whole = message(rng, DESCRIPTOR, 3)
    if rng.random() < 0.02:
        whole = rng.choice([*WORDS, *NUMBERS, "", " ", "\ufeff{}", whole + whole, whole[:-1]])
    if rng.random() < 0.01:
        whole = nested(rng)
    raw = whole.encode("utf-8", "surrogatepass")
    return mutated(rng, raw) if rng.random() < 0.1 else raw


def message(rng: random.Random, descriptor: Any, depth: int) -> str:
    """An object with some of the message's fields, spelled in one way or the other."""
    pairs: list[str] = []
    for field in rng.choices(descriptor.fields, k=rng.choice([0, 1, 1, 1, 2, 3])):
        name = rng.choice([field.json_name, field.json_name, field.name])
        if rng.random() < 0.02:
            name = rng.choice(["nope", "", name.upper(), name + " ", "@type"])
        shown = json.dumps(name)
        pairs.append(f"{shown}:{blank(rng)}{valued(rng, field, depth)}")
    return "{" + f",{blank(rng)}".join(pairs) + "}"


def valued(rng: random.Random, field: Any, depth: int) -> str:
    if rng.random() < 0.05:
        return rng.choice(WORDS)
    if is_map(field):
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        entries = [
            f"{keyed(rng, key)}: {one(rng, value, depth)}" for _ in range(rng.choice([0, 1, 1, 2]))
        ]
        return "{" + ", ".join(entries) + "}"
    if field.is_repeated:
        return "[" + ", ".join(one(rng, field, depth) for _ in range(rng.choice([0, 1, 2]))) + "]"
    return one(rng, field, depth)


def keyed(rng: random.Random, field: Any) -> str:
    if rng.random() < 0.4:
        return json.dumps(rng.choice(STRINGS))
    if field.type == F.TYPE_BOOL:
        return rng.choice(['"true"', '"false"'])
    return json.dumps(rng.choice(["1", "0", "-1", "7", "a", "1.0"]))


def one(rng: random.Random, field: Any, depth: int) -> str:
    dice = rng.random()
    if dice < 0.12:
        return rng.choice(NUMBERS)
    if dice < 0.24:
        return json.dumps(rng.choice(STRINGS))
    if dice < 0.28:
        return rng.choice(WORDS)
    if field.message_type is not None:
        return known(rng, field.message_type, depth)
    if field.enum_type is not None:
        return rng.choice(['"RED"', '"MINUS"', "1", "0", "77", "-1", '"NULL_VALUE"', "null", '"1"'])
    return scalar(rng, KINDS[field.type])


def scalar(rng: random.Random, kind: str) -> str:
    if kind == "bool":
        return rng.choice(["true", "false"])
    if kind in ("string", "bytes"):
        return json.dumps(rng.choice(STRINGS), ensure_ascii=rng.random() < 0.5)
    number = rng.choice(NUMBERS)
    return json.dumps(number) if rng.random() < 0.4 else number


def known(rng: random.Random, descriptor: Any, depth: int) -> str:
    name = descriptor.name
    if name in ("Timestamp", "Duration", "FieldMask"):
        return json.dumps(rng.choice(STRINGS[len(STRINGS) - 60 :]))
    if name in ("Struct", "Value", "ListValue"):
        return free(rng, 3)
    if name == "Any":
        return rng.choice(ANY) % rng.choice(["", "", ', "value": {}', ', "nope": 1', ', "on": {}'])
    if name.endswith("Value"):
        return scalar(rng, name.removesuffix("Value").lower())
    return message(rng, descriptor, depth - 1) if depth > 0 else "{}"


def free(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice([*WORDS[:8], *NUMBERS[:12], json.dumps(rng.choice(STRINGS))])
    parts = [free(rng, depth - 1) for _ in range(rng.choice([0, 1, 2]))]
    if rng.random() < 0.5:
        return "[" + ", ".join(parts) + "]"
    return "{" + ", ".join(f'"{rng.choice("abé")}": {part}' for part in parts) + "}"


def nested(rng: random.Random) -> str:
    """Around the depths at which somebody stops."""
    depth = rng.choice([48, 49, 50, 51, 98, 99, 100, 101, 102, 300])
    before, after = rng.choice(
        [
            ('{"self":', "}"),
            ('{"plate": {"on":', "}}"),
            ('{"anyValue": [', "]}"),
            ('{"free":{"a":', "}}"),
        ]
    )
    if before.startswith('{"self"'):
        return before * depth + "{}" + after * depth
    inner = {'{"plate": {"on":': ('{"on":', "}"), '{"anyValue": [': ("[", "]")}.get(
        before, ('{"a":', "}")
    )
    return before + inner[0] * depth + "{}" + inner[1] * depth + after


def blank(rng: random.Random) -> str:
    return rng.choice(["", "", "", " ", "\n\t", "\u00a0"] if rng.random() < 0.02 else ["", " "])


def mutated(rng: random.Random, raw: bytes) -> bytes:
    """A byte more, a byte less, another byte, or half of it."""
    if not raw:
        return raw
    at = rng.randrange(len(raw))
    byte = bytes([rng.choice([0x00, 0x20, 0x22, 0x2C, 0x5C, 0x7B, 0x7D, 0xC3, 0xE9, 0xFF, 0x31])])
    return rng.choice(
        [
            raw[:at] + byte + raw[at:],
            raw[:at] + raw[at + 1 :],
            raw[:at] + byte + raw[at + 1 :],
            raw[:at],
            raw[:at] + raw[at : at + 9] + raw[at:],
        ]
    )
