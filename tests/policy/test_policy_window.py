"""Windows hold exactly what they say, however calls fall into them."""

from hypothesis import given
from hypothesis import strategies as some

from mesh.policy.window import SLICES, CountWindow, TimeWindow, Total

calls = some.lists(some.tuples(some.booleans(), some.booleans()), max_size=60)


@given(size=some.integers(1, 20), history=calls)
def test_a_count_window_holds_the_last_calls(size, history):
    window = CountWindow(size)
    for failed, slow in history:
        window.add(0.0, failed=failed, slow=slow)

    last = history[-size:]
    assert window.total(0.0) == Total(
        len(last), sum(failed for failed, _ in last), sum(slow for _, slow in last)
    )


@given(
    steps=some.lists(some.tuples(some.floats(0, 30), some.booleans()), max_size=40),
    start=some.floats(0, 1000),
)
def test_a_time_window_holds_the_last_slices(steps, start):
    window, now, added = TimeWindow(10.0), start, []
    for pause, failed in steps:
        now += pause
        window.add(now, failed=failed, slow=False)
        added.append((int(now / window._width), failed))
        kept = [failed for slice_, failed in added if slice_ > int(now / window._width) - SLICES]
        assert window.total(now) == Total(len(kept), sum(kept), 0)


def test_a_window_that_is_cleared_is_empty():
    for window in (CountWindow(3), TimeWindow(3.0)):
        window.add(1.0, failed=True, slow=True)
        window.clear()
        assert window.total(1.0) == Total()
