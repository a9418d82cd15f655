"""Our ProtoJSON and json_format's read the same, but for a table of differences."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.invalid import Invalid
from tests.gateway.differential import (
    DIFFERENCES,
    THEIRS_REFUSES,
    Difference,
    compare,
    ours,
    theirs,
)
from tests.gateway.json_texts import text


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.said)
def test_each_difference_is_one(row: Difference) -> None:
    mine, reference = ours(row.example), theirs(row.example)
    strict, lenient = (reference, mine) if row.who == THEIRS_REFUSES else (mine, reference)

    assert isinstance(strict, Exception)
    assert isinstance(lenient, bytes)
    assert compare(row.example) == row.said


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**60))
def test_texts_that_are_nearly_json_are_read_alike_or_differ_as_the_table_says(seed: int) -> None:
    compare(text(random.Random(seed)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "ignore")))
@example(b"\xff")
@example(b'{"stringOne": "\xc3"}')
@example(b'{"stringOne": "\xed\xa0\x80"}')
def test_any_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    assert isinstance(ours(raw), bytes | Invalid)
    compare(raw)


@pytest.mark.slow
def test_many_texts_are_read_alike_or_differ_as_the_table_says() -> None:
    for seed in range(50_000):
        compare(text(random.Random(seed)))
