"""Two answers that say the same, and two that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strangler.comparing import ABSENT, MOST, Difference, differences, pointer
from gateway.strangler.route import Shadow
from gateway.strangler.shadow import Outcome, compare
from mesh.errors import PolicyError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("legacy", "new"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"units": 14}, {"units": "14"}),
        (1, 1.0),
        ("1e3", 1000),
        (9007199254740993, "9007199254740993"),
        ({"note": None}, {}),
        ("2026-01-02T03:04:05Z", "2026-01-02T04:04:05.000+01:00"),
        ("2026-01-02T03:04:05.5z", "2026-01-02T03:04:05.500000000Z"),
    ],
)
def test_the_same_said_otherwise_is_the_same(legacy: Any, new: Any) -> None:
    assert differences(legacy, new) == []
    assert differences(new, legacy) == []


@pytest.mark.parametrize(
    ("legacy", "new", "at"),
    [
        ({"a": 1}, {"a": 2}, "/a"),
        ({"a": True}, {"a": 1}, "/a"),
        ({"a": True}, {"a": "true"}, "/a"),
        ({"a": [1, 2]}, {"a": [2, 1]}, "/a/0"),
        ({"a": [1]}, {"a": [1, 2]}, "/a/1"),
        ({"a": {}}, {}, "/a"),
        ({"a": ""}, {}, "/a"),
        ({"a/b": {"c~": 1}}, {"a/b": {"c~": 2}}, "/a~1b/c~0"),
        ("007", 7, ""),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z", ""),
        ("2026-13-02T03:04:05Z", "2026-13-02T03:04:05.0Z", ""),
        (9007199254740993, "9007199254740992", ""),
        ([], {}, ""),
    ],
)
def test_what_is_not_the_same_is_told_with_its_place(legacy: Any, new: Any, at: str) -> None:
    found = differences(legacy, new)

    assert found[0].at == at
    assert len(found) == len(differences(new, legacy))


def test_ignored_places_may_differ_with_all_below_them() -> None:
    ignore = [pointer("/products/*/available"), pointer("/meta"), pointer("/a~1b/0")]
    legacy = {"products": [{"id": 1, "available": 3}, {"id": 2}], "meta": {"x": 1}, "a/b": [1]}
    new = {"products": [{"id": 1, "available": 4}, {"id": 3, "available": 1}], "a/b": [2]}

    assert differences(legacy, new, ignore) == [Difference("/products/1/id", "2", "3")]


@pytest.mark.parametrize("empty", ["", 0, "0", False, [], {}])
def test_what_protojson_prints_of_an_empty_field_may_count_as_absent(empty: Any) -> None:
    assert len(differences({}, {"a": empty})) == 1
    assert differences({}, {"a": empty}, empty_is_absent=True) == []
    assert differences({"a": 5}, {"a": empty}, empty_is_absent=True)[0].at == "/a"
    assert differences({}, {"a": 7}, empty_is_absent=True) == [Difference("/a", ABSENT, "7")]


def test_differences_are_bounded_in_number_and_length() -> None:
    found = differences(["x" * 10_000] * 1000, ["y"] * 1000)

    assert len(found) == MOST
    assert max(len(each.legacy) for each in found) <= 200


@given(JSON)
def test_everything_is_the_same_as_itself(value: Any) -> None:
    assert differences(value, value) == []


@pytest.mark.parametrize("text", ["products", "", "/a~2", "/a~"])
def test_a_pointer_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="JSON Pointer"):
        pointer(text, "$.ignore[0]")


RULE = Shadow()


@pytest.mark.parametrize(
    ("legacy", "new", "expected"),
    [
        (Outcome(200, b'{"a": 1}'), Outcome(200, b'{ "a" : 1 }'), []),
        (Outcome(404, b"not here"), Outcome(404, b'{"code": 5}'), []),
        (Outcome(200, b"{}"), Outcome(404, b"{}"), [Difference("status", "200", "404")]),
        (Outcome(200, None), Outcome(200, b"{}"), None),
        (Outcome(200, b"<p>"), Outcome(200, b"<p>"), []),
        (
            Outcome(200, b"<p>", "text/html"),
            Outcome(200, b"{}", "application/json"),
            [Difference("body", "text/html, 3 bytes", "application/json, 2 bytes")],
        ),
    ],
)
def test_outcomes_are_compared_by_status_and_then_by_body(
    legacy: Outcome, new: Outcome, expected: list[Difference] | None
) -> None:
    assert compare(legacy, new, RULE) == expected
