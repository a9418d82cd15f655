"""When to turn back, and the window that says so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.strangler.abort import Abort, enough, judge
from gateway.strangler.evidence import ROW, Evidence, Total, size, tag_of
from mesh.errors import PolicyError

RULE = Abort(minimum_calls=10, error_rate=0.1, mismatch_rate=0.02, slow=0.5, slow_rate=0.5)


@pytest.mark.parametrize(
    ("total", "reason"),
    [
        (Total(), ""),
        (Total(calls=9, failed=9), ""),
        (Total(calls=10, failed=1), ""),
        (Total(calls=10, failed=2), "2 of 10 calls failed: 20.0% is more than 10.0%"),
        (Total(calls=10, slow=5), ""),
        (Total(calls=10, slow=6), "6 of 10 calls took over 0.5 s: 60.0% is more than 50.0%"),
        (Total(calls=50, compared=9, different=9), ""),
        (
            Total(calls=0, compared=100, different=3),
            "3 of 100 answers differed: 3.0% is more than 2.0%",
        ),
    ],
)
def test_a_rate_above_its_limit_is_a_reason_once_enough_was_seen(total: Total, reason: str) -> None:
    assert judge(RULE, total) == reason


def test_a_rate_without_limit_is_not_looked_at() -> None:
    blind = Abort(minimum_calls=1, error_rate=None, mismatch_rate=None)

    assert judge(blind, Total(9, 9, 9, 9, 9)) == ""


def test_the_next_step_wants_as_many_calls_as_a_judgement() -> None:
    assert [enough(RULE, Total(calls=calls)) for calls in (9, 10)] == [False, True]
    assert enough(None, Total())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"window": 0}, "abort.window: 0"),
        ({"minimum_calls": 0}, "abort.minimum_calls: 0"),
        ({"error_rate": 1.5}, "abort.error_rate: 1.5"),
        ({"slow": 1.0}, "abort.slow: 1.0"),
        ({"slow_rate": 0.5}, "abort.slow: None"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, float], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Abort(**fields)  # type: ignore[arg-type]


# -- the window


def window(**keywords: int | float) -> Evidence:
    return Evidence(memoryview(bytearray(ROW * 8)).cast("q"), **keywords)  # type: ignore[arg-type]


def test_what_is_older_than_the_window_is_forgotten() -> None:
    evidence = window(seconds=10)
    for now in range(20):
        evidence.called(now, failed=now % 2 == 0, slow=False)

    assert evidence.total(19) == Total(calls=10, failed=5)
    assert evidence.total(25) == Total(calls=4, failed=2)
    assert evidence.total(40) == Total()


def test_what_was_seen_before_a_route_moved_counts_no_more() -> None:
    evidence = window(seconds=10)
    evidence.called(1, 7, failed=True, slow=True)
    evidence.compared(1, 7, different=True)

    assert evidence.total(1, 7) == Total(1, 1, 1, 1, 1)
    assert evidence.total(1, 8) == Total()
    evidence.called(1, 8, failed=False, slow=False)
    assert evidence.total(1, 8) == Total(calls=1)


def test_workers_see_each_others_calls_and_never_another_rules() -> None:
    memory = memoryview(bytearray(size(3, 2))).cast("q")

    def of(worker: int, place: int, tag: int) -> Evidence:
        return Evidence(
            memory, worker=worker, workers=3, place=place, routes=2, tag=tag, seconds=10
        )

    one, two, other = of(0, 1, 5), of(1, 1, 5), of(2, 1, 6)
    of(0, 0, 5).called(0, failed=True, slow=False)
    one.called(0, failed=True, slow=False)
    two.called(0, failed=False, slow=True)
    other.called(0, failed=True, slow=True)

    assert one.total(0) == two.total(0) == Total(calls=2, failed=1, slow=1)
    assert other.total(0) == Total(calls=1, failed=1, slow=1)
    # A worker that is started again finds its row; under another rule it is empty.
    assert of(1, 1, 5).total(0) == Total(calls=2, failed=1, slow=1)
    assert of(1, 1, 7).total(0) == Total()


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_the_window_holds_what_a_list_would(calls: list[tuple[float, bool]]) -> None:
    evidence, now = window(seconds=10), 100.0
    for at, failed in sorted(calls):
        evidence.called(at, failed=failed, slow=False)
    inside = [failed for at, failed in calls if int(at) > 90]

    assert evidence.total(now) == Total(calls=len(inside), failed=sum(inside))


def test_a_tag_is_never_that_of_an_unwritten_row() -> None:
    assert tag_of("a") != tag_of("b")
    assert 0 < tag_of("") < 2**63
