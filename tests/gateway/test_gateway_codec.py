"""ProtoJSON both ways: the same as json_format where that is right, stricter where it is not."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.invalid import Invalid
from gateway.jsontext import dumps, loads
from tests.gateway import kitchen
from tests.gateway.random_messages import DESCRIPTOR, All, fill

CONTRACT = kitchen.contract()
CODEC = CONTRACT.codec


def reference(message: Any) -> Any:
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, descriptor_pool=CONTRACT.pool
    )


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**48))
def test_random_messages_are_written_as_json_format_writes_them(seed: int) -> None:
    message = fill(random.Random(seed), All())

    written = CODEC.write(message)

    assert json.loads(dumps(written)) == json.loads(json.dumps(reference(message)))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**48))
def test_random_messages_come_back_from_their_json(seed: int) -> None:
    message = fill(random.Random(seed), All())

    back = CODEC.read(DESCRIPTOR, loads(dumps(CODEC.write(message))))

    # NaN is not equal to itself, its bytes are.
    assert back.SerializeToString(deterministic=True) == canonical(message)


def canonical(message: Any) -> bytes:
    """Bytes after a trip through json_format: an unset Value is null there, -0.0 stays."""
    back = json_format.ParseDict(reference(message), All(), descriptor_pool=CONTRACT.pool)
    raw: bytes = back.SerializeToString(deterministic=True)
    return raw


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(
            [
                "RED",
                "NOPE",
                "1",
                "-1",
                "1e2",
                "1.0",
                "true",
                "NaN",
                "Infinity",
                "AQI=",
                "2026-01-02T03:04:05Z",
                "1.5s",
                "a,bC",
            ]
        ),
        st.text(max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
FIELD = st.sampled_from([field.json_name for field in DESCRIPTOR.fields])


@settings(max_examples=1000, deadline=None)
@given(FIELD, JSON)
def test_whatever_is_read_is_read_as_json_format_reads_it(name: str, value: Any) -> None:
    """Stricter is allowed, different is not."""
    assume((name, value) != ("anyValueMany", None))  # json_format crashes there

    try:
        message = CODEC.read(DESCRIPTOR, loads(json.dumps({name: value})))
    except Invalid:
        return

    expected = json_format.ParseDict({name: value}, All(), descriptor_pool=CONTRACT.pool)

    assert message.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(
    ("text", "field", "why"),
    [
        ('{"nope": 1}', "nope", "no such field"),
        ('{"plate": {"nope": 1}}', "plate.nope", "no such field"),
        ('{"plates": [{}, {"size": "x"}]}', "plates[1].size", "not an int64"),
        ('{"stringToPlate": {"k": {"size": true}}}', "stringToPlate.k.size", "not an int64"),
        ('{"intOne": 1}', "intOne", "no such field"),
        ('{"int32One": "1_000"}', "int32One", "not an int32"),
        ('{"int32One": " 5"}', "int32One", "not an int32"),
        ('{"int32One": "\\u0663"}', "int32One", "not an int32"),
        ('{"int32One": 2147483648}', "int32One", "out of the range"),
        ('{"int32One": 1.5}', "int32One", "not an int32"),
        ('{"int32One": true}', "int32One", "not an int32"),
        ('{"uint32One": -1}', "uint32One", "out of the range"),
        ('{"int64One": "9223372036854775808"}', "int64One", "out of the range"),
        ('{"int64One": "1e99"}', "int64One", "not an int64"),
        ('{"int64One": 1e999}', "int64One", "not an int64"),
        ('{"uint64Many": [1, -1e999]}', "uint64Many[1]", "not an uint64"),
        ('{"boolOne": "true"}', "boolOne", "not true or false"),
        ('{"boolOne": 1}', "boolOne", "not true or false"),
        ('{"stringOne": 1}', "stringOne", "not a string"),
        ('{"stringOne": "\\ud800"}', "stringOne", "surrogate"),
        ('{"stringToString": {"\\ud800": ""}}', "stringToString.\ud800", "surrogate"),
        ('{"bytesOne": "a"}', "bytesOne", "not base64"),
        ('{"bytesOne": "AQ!="}', "bytesOne", "not base64"),
        ('{"bytesOne": "AQ==="}', "bytesOne", "not base64"),
        ('{"floatOne": 3.5e38}', "floatOne", "out of the range"),
        ('{"doubleOne": 1e999}', "doubleOne", "out of the range"),
        ('{"doubleOne": "nan"}', "doubleOne", "not a number"),
        ('{"color": "PUCE"}', "color", "not a value of Color"),
        ('{"color": "1"}', "color", "not a value of Color"),
        ('{"color": 4294967296}', "color", "out of the range"),
        ('{"time": "2026-1-2T03:04:05Z"}', "time", "not a time"),
        ('{"time": "2026-02-30T03:04:05Z"}', "time", "not a time that exists"),
        ('{"time": "2026-01-02t03:04:05z"}', "time", "not a time"),
        ('{"time": "2026-01-02T03:04:05"}', "time", "not a time"),
        ('{"time": "0001-01-01T00:00:00+01:00"}', "time", "between the years"),
        ('{"span": "1.5"}', "span", "not a duration"),
        ('{"span": "1h"}', "span", "not a duration"),
        ('{"span": "315576000001s"}', "span", "longer than"),
        ('{"mask": "a_b"}', "mask", "not a path"),
        ('{"boxed": {"@type": "type.googleapis.com/no.Such"}}', "boxed.@type", "not a type known"),
        ('{"boxed": {"size": 1}}', "boxed.@type", "not a type's URL"),
        ('{"plates": [null]}', "plates[0]", "null is not an element"),
        ('{"plates": {}}', "plates", "not an array"),
        ('{"plate": []}', "plate", "not an object"),
        ('{"stringToString": {"a": null}}', "stringToString.a", "null is not a value"),
        ('{"int32ToString": {"1.0": "x"}}', "int32ToString.1.0", "not an integer"),
        ('{"boolToInt64": {"TRUE": 1}}', "boolToInt64.TRUE", "not true or false"),
        ('{"left": "a", "right": 1}', "right", "cannot be given together"),
        ('{"stringOne": "a", "string_one": "a"}', "string_one", "given twice"),
    ],
)
def test_what_protojson_does_not_allow_is_refused_with_the_field_s_path(
    text: str, field: str, why: str
) -> None:
    with pytest.raises(Invalid) as caught:
        CODEC.read(DESCRIPTOR, loads(text))

    assert caught.value.field == field
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1, "a": 1}', "given twice"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": Infinity}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xc3"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b"[" * 100_000, "too deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "too long"),
        (b'{"a": "\t"}', "not JSON"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        loads(text)


def test_the_largest_float_comes_back() -> None:
    message = All(float_one=3.4028234663852886e38)

    assert CODEC.read(DESCRIPTOR, loads(dumps(CODEC.write(message)))) == message


def test_nesting_has_a_bound() -> None:
    value: Any = {}
    for _ in range(150):
        value = {"self": value}

    with pytest.raises(Invalid, match="too deep"):
        CODEC.read(DESCRIPTOR, value)


def test_unknown_enum_numbers_are_kept_both_ways() -> None:
    message = CODEC.read(DESCRIPTOR, {"color": 77, "colors": [-1, "RED", 77]})

    assert (message.color, list(message.colors)) == (77, [-1, 1, 77])
    assert CODEC.write(message)["colors"] == ["MINUS", "RED", 77]


def test_null_is_the_absence_of_a_value_except_where_it_is_one() -> None:
    message = CODEC.read(
        DESCRIPTOR,
        {
            "stringOne": None,
            "plate": None,
            "plates": None,
            "anyValue": None,
            "left": None,
            "right": 1,
        },
    )

    assert not message.HasField("plate")
    assert message.any_value.WhichOneof("kind") == "null_value"
    assert message.right == 1


def test_fields_with_presence_are_absent_until_they_are_set() -> None:
    assert "maybe" not in CODEC.write(All())
    assert CODEC.write(All(maybe=""))["maybe"] == ""
    assert CODEC.write(All())["stringOne"] == ""
