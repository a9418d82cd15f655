"""What buf.validate says stands in the schema, and the schema lets through what the rules do."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, text_format
from hypothesis import given
from hypothesis import strategies as st

from gateway import cel
from gateway.allowed import Allowed, allowed
from gateway.contract import Contract
from gateway.digits import between
from gateway.schema import Schemas
from gateway.values import Use


@given(st.integers(-(2**63), 2**64), st.integers(0, 2**20), st.integers(-(2**64), 2**64))
def test_a_pattern_of_digits_matches_exactly_the_numbers_between(
    low: int, width: int, other: int
) -> None:
    pattern = re.compile(between(low, low + width))

    for number in (low, low + width, low + width // 2):
        assert pattern.search(str(number))
    for number in (low - 1, low + width + 1, other):
        assert bool(pattern.search(str(number))) == (low <= number <= low + width)
    assert not pattern.search(f"0{abs(low)}")


@pytest.mark.parametrize(
    ("low", "high", "pattern"),
    [
        (0, 0, "^(?:0)$"),
        (1, 128, "^(?:[1-9][0-9]?|1[0-1][0-9]|12[0-8])$"),
        (1, 1_000_000, "^(?:[1-9][0-9]{0,5}|1000000)$"),
        (-1, 9, "^(?:-1|0|[1-9])$"),
        (-20, -10, "^(?:-1[0-9]|-20)$"),
    ],
)
def test_a_pattern_of_digits_is_as_short_as_a_reader_hopes(
    low: int, high: int, pattern: str
) -> None:
    assert between(low, high) == pattern


def test_no_number_lies_between_a_number_and_a_smaller_one() -> None:
    with pytest.raises(ValueError, match="between 2 and 1"):
        between(2, 1)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("this >= 1", Allowed(low=1)),
        ("this > 0 && this < 10", Allowed(above=0, below=10)),
        ("this.units <= 5", Allowed(inside={"units": Allowed(high=5)})),
        ("this.a.b == 'x'", Allowed(inside={"a": Allowed(inside={"b": Allowed(only=("x",))})})),
        ('this.a.matches("^[A-Z]{3}$")', Allowed(inside={"a": Allowed(patterns=("^[A-Z]{3}$",))})),
        (r"this.matches(r'\d+')", Allowed(patterns=(r"\d+",))),
        ("this.startsWith('a.b')", Allowed(patterns=(r"^a\.b",))),
        ("this.id != ''", Allowed(inside={"id": Allowed(never=("",))})),
        ("this in [1, 2]", Allowed(only=(1, 2))),
        ("this.size() <= 3", Allowed(max_length=3, max_items=3)),
        ("size(this.x) > 0", Allowed(inside={"x": Allowed(min_length=1, min_items=1)})),
        # Of a conjunction the rest still holds; of anything else nothing is known.
        ("this > 0 && isInf(this)", Allowed(above=0)),
        ("this > 0 || this < -5", Allowed()),
        ("this > 0 ? true : false", Allowed()),
        ("this.a > this.b", Allowed()),
        ("!(this > 0)", Allowed()),
        ("(this > 0 || this.x) && this < 3", Allowed(below=3)),
        ("this == 'a && b'", Allowed(only=("a && b",))),
    ],
)
def test_simple_conditions_of_cel_are_understood(expression: str, expected: Allowed) -> None:
    assert cel.understood(expression) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("string { min_len: 1 max_len: 3 }", Allowed(min_length=1, max_length=3)),
        ("string { len: 3 }", Allowed(min_length=3, max_length=3)),
        ("string { uuid: true }", Allowed(format="uuid")),
        ("string { prefix: 'a.' suffix: 'z' }", Allowed(patterns=(r"^a\.", "z$"))),
        ("string { in: 'a' in: 'b' }", Allowed(only=("a", "b"))),
        ("string { not_contains: '/' }", Allowed(absent=("/",))),
        ("int32 { gt: 0 lte: 9 }", Allowed(above=0, high=9)),
        ("int32 { const: 0 }", Allowed(only=(0,))),
        ("int32 { gt: 9 lt: 0 }", Allowed()),  # outside of 0 to 9
        ("double { gte: 0 finite: true }", Allowed(low=0, finite=True)),
        ("enum { defined_only: true not_in: 0 }", Allowed(defined_only=True, never=(0,))),
        (
            "repeated { min_items: 1 unique: true items { string { min_len: 1 } } }",
            Allowed(min_items=1, unique=True, items=Allowed(min_length=1)),
        ),
        (
            "map { max_pairs: 2 keys { string { max_len: 3 } } values { int32 { gte: 0 } } }",
            Allowed(max_items=2, keys=Allowed(max_length=3), items=Allowed(low=0)),
        ),
        ("required: true", Allowed(required=True)),
        ("required: true ignore: IGNORE_ALWAYS", Allowed()),
        (
            "ignore: IGNORE_IF_ZERO_VALUE string { email: true }",
            Allowed(zero_passes=True, format="email"),
        ),
    ],
)
def test_rules_become_plain_values(rules: str, expected: Allowed) -> None:
    parsed = text_format.Parse(rules, validate_pb2.FieldRules())

    assert allowed(parsed) == expected


FIELDS = {
    "name": ("STRING", "string { min_len: 1 max_len: 3 }"),
    "count": ("INT32", "int32 { gt: 0 lte: 10 }"),
    "long": ("INT64", "int64 { gte: 0 }"),
    "id": ("STRING", "string { uuid: true } ignore: IGNORE_IF_ZERO_VALUE"),
    "tags": ("STRING[]", "repeated { max_items: 2 unique: true items { string { max_len: 2 } } }"),
    "color": (".rules.Color", "enum { defined_only: true }"),
    "shade": (".rules.Color", ""),
    "ratio": ("DOUBLE", "double { gte: 0 lte: 1 }"),
    "free": ("DOUBLE", ""),
    "data": ("BYTES", ""),
    "flag": ("BOOL", ""),
}


def _field(name: str, number: int, kind: str, rules: str) -> str:
    kind, many = kind.removesuffix("[]"), kind.endswith("[]")
    typed = f"TYPE_ENUM type_name: '{kind}'" if kind.startswith(".") else f"TYPE_{kind}"
    label = "LABEL_REPEATED" if many else "LABEL_OPTIONAL"
    option = f"options {{ [buf.validate.field] {{ {rules} }} }}" if rules else ""
    return f"field {{ name: '{name}' number: {number} label: {label} type: {typed} {option} }}"


@pytest.fixture(scope="module")
def contract() -> Contract:
    fields = [_field(name, at, *FIELDS[name]) for at, name in enumerate(FIELDS, 1)]
    sides = " ".join(
        f"field {{ name: '{name}' number: {number} label: LABEL_OPTIONAL type: TYPE_STRING"
        " oneof_index: 0 }"
        for name, number in (("left", 50), ("right", 51))
    )
    file = descriptor_pb2.FileDescriptorProto()
    text = f"""
    name: 'rules.proto' package: 'rules' syntax: 'proto3'
    dependency: 'buf/validate/validate.proto'
    enum_type {{ name: 'Color'
      value {{ name: 'NONE' number: 0 }} value {{ name: 'RED' number: 1 }} }}
    message_type {{ name: 'All' {" ".join(fields)} {sides} oneof_decl {{ name: 'side' }} }}
    """
    text_format.Parse(text, file)
    return Contract([file], [])


@pytest.fixture(scope="module")
def schema(contract: Contract) -> Any:
    schemas = Schemas()
    message = contract.pool.FindMessageTypeByName("rules.All")
    whole = schemas.whole(contract, message, Use.INPUT)
    jsonschema.Draft202012Validator.check_schema(whole)
    return whole


GOOD = {"name": "x", "count": 1}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"count": "10"},
        {"long": "9223372036854775807"},
        {"long": 0, "tags": None, "flag": None},
        {"id": ""},
        {"id": "9e2a1b7c-0d3f-4c5a-8b6e-1f2a3b4c5d6e"},
        {"tags": ["a", "b"]},
        {"color": "RED", "shade": 77},
        {"color": 1, "shade": "NONE"},
        {"ratio": 0.5, "free": "NaN"},
        {"free": "-Infinity", "data": "AQI"},
        {"data": "AQI=", "left": "x"},
        {"flag": True},
    ],
)
def test_the_schema_allows_what_the_rules_do(schema: Any, more: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate({**GOOD, **more})


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""},
        {"name": None},
        {"name": "four"},
        {"count": 0},
        {"count": "11"},
        {"count": 1.5},
        {"long": "-1"},
        {"long": "9223372036854775808"},
        {"long": "01"},
        {"id": "no"},
        {"tags": ["a", "a"]},
        {"tags": ["a", "b", "c"]},
        {"tags": ["abc"]},
        {"tags": [None]},
        {"color": "PUCE"},
        {"color": 7},
        {"shade": "PUCE"},
        {"ratio": 1.5},
        {"ratio": "NaN"},
        {"free": "nan"},
        {"data": "A"},
        {"flag": "true"},
        {"left": "a", "right": "b"},
        {"nope": 1},
    ],
)
def test_the_schema_refuses_what_the_rules_do(schema: Any, more: dict[str, Any]) -> None:
    valid = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )

    assert not valid.is_valid({**GOOD, **more})


def test_what_the_rules_need_is_required(schema: Any) -> None:
    assert schema["required"] == ["name", "count"]
