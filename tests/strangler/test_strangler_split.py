"""Who has moved: sticky, rising, even, and the same in every process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strangler.split import BUCKETS, LAST, bucket, moved

KEYS = [f"customer-{number}" for number in range(10_000)]


def test_ten_thousand_keys_keep_their_side_while_the_percentage_rises() -> None:
    """Whoever has moved at some percentage has moved at every higher one."""
    buckets = {key: bucket(key, "products") for key in KEYS}
    before: set[str] = set()
    for percent in (0, 0.01, 1, 10, 10.01, 25, 50, 99.99, 100):
        now = {key for key, number in buckets.items() if moved(number, percent)}
        assert before <= now
        assert now == {key for key in KEYS if moved(bucket(key, "products"), percent)}
        assert abs(len(now) / len(KEYS) * 100 - percent) < 1.5
        before = now

    assert before == set(KEYS)


def test_another_salt_moves_others_first() -> None:
    one, other = (
        {key for key in KEYS if moved(bucket(key, salt), 10)} for salt in ("products", "orders")
    )

    assert 0.5 < len(one & other) / (len(KEYS) / 100) < 2  # a tenth of a tenth, by chance


@given(st.text(), st.text(), st.floats(0, 100), st.floats(0, 100))
def test_no_key_ever_goes_back_while_the_percentage_rises(
    key: str, salt: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    number = bucket(key, salt)

    assert 0 <= number < BUCKETS
    assert moved(number, low) <= moved(number, high)
    assert not moved(number, 0)
    assert moved(number, 100)


@pytest.mark.parametrize(("percent", "at"), [(99.99, False), (100, True)])
def test_no_key_moves_last(percent: float, at: bool) -> None:
    assert bucket("", "any") == LAST
    assert moved(LAST, percent) is at


def test_every_process_has_the_same_buckets() -> None:
    """Python's own hash() has not: it is another in each."""
    code = "from gateway.strangler.split import bucket; print(bucket('ada', 's'), bucket('é', ''))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == [str(bucket("ada", "s")), str(bucket("é", ""))]
