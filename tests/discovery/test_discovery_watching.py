"""The loop of a blocking query, as transcripts: answers and failures in, news and queries out."""

from __future__ import annotations

from random import Random

import pytest

from discovery.consul import schema
from discovery.consul.watching import Query, Watching

TODAY = 1_700_000_000.0
WAIT = 60.0
SETTLE = 10.0


def watching(**options: object) -> Watching[frozenset[str]]:
    settings = {"wait": WAIT, "max_stale": 5.0, "settle": SETTLE, "stale": True, "now": 0.0}
    return Watching(
        frozenset(),
        _decode,
        lambda old, new: old | new,
        **settings | options,  # type: ignore[arg-type]
    )


def _decode(body: bytes) -> frozenset[str]:
    """ "a b" is the two endpoints a and b, "?" no answer of Consul's."""
    if body == b"?":
        raise schema.Malformed(body)
    return frozenset(body.decode().split())


class Play:
    """Feeds one line a second to a watch and notes what its consumer would see."""

    def __init__(self, watch: Watching[frozenset[str]]) -> None:
        self.watch = watch
        self.now = 0.0

    def __call__(self, *lines: str) -> list[str | None]:
        return [self._line(line) for line in lines]

    def _line(self, line: str) -> str | None:
        """
        "5: a b" is an answer with index 5, "down" a failure, "+3" a pause of seconds.

        "old 5: a" is an answer that is too far behind the leader.
        """
        if line.startswith("+"):
            self.now += float(line)
            return None
        self.now += 1.0
        if line == "down":
            news = self.watch.failed(self.now, TODAY + self.now, Random(1))
        else:
            index, _, body = line.removeprefix("old ").partition(": ")
            headers = {"X-Consul-Index": index.strip(":")}
            if line.startswith("old "):
                headers["X-Consul-LastContact"] = "99000"
            news = self.watch.answered(headers, body.encode(), self.now, TODAY + self.now)
        if news is None:
            return None
        stale = "" if news.stale_since is None else f" stale since {news.stale_since - TODAY:.0f}"
        return " ".join(sorted(news.value)) + stale


@pytest.mark.parametrize(
    ("lines", "news"),
    [
        pytest.param(["5:"], [""], id="the first answer is news even when nobody is there"),
        pytest.param(["5: a", "6: a"], ["a", None], id="an answer is not a change"),
        pytest.param(["5: a", "6: a b", "7:"], ["a", "a b", ""], id="the last one leaving is seen"),
        pytest.param(["down"], [" stale since 1"], id="an agent that is down is told at once"),
        pytest.param(
            ["5: a", "down", "down"],
            ["a", "a stale since 2", None],
            id="an outage keeps, told once",
        ),
        pytest.param(
            ["5: a", "down", "6: a", "7:", "8: a"],
            ["a", "a stale since 2", "a", "a stale since 4", "a"],
            id="all back, and then not: an agent that takes its node's past out of the catalog",
        ),
        pytest.param(
            ["5: a", "down", "6: a", "7:", "+9", "7:"],
            ["a", "a stale since 2", "a", "a stale since 4", None, ""],
            id="after the settling time an empty answer is the truth",
        ),
        pytest.param(
            ["5: a b", "down", "2:", "3: b", "4: a b", "+11", "5: a"],
            ["a b", "a b stale since 2", None, None, "a b", None, "a"],
            id="an agent that restarted empty empties nothing while they register again",
        ),
        pytest.param(
            ["5: a b", "down", "2: b", "+11", "3: b"],
            ["a b", "a b stale since 2", None, None, "b"],
            id="who is still missing after the settling time has left",
        ),
        pytest.param(
            ["5: a", "2:", "3: a"],
            ["a", "a stale since 2", "a"],
            id="an index that went backwards settles too",
        ),
        pytest.param(
            ["5: a", "down", "6: c"],
            ["a", "a stale since 2", "a c stale since 2"],
            id="newcomers are seen while the others settle",
        ),
        pytest.param(
            ["5: a", "down", "6:", "+9", "down", "6:", "+8", "7:", "+2", "7:"],
            ["a", "a stale since 2", None, None, None, None, None, None, None, ""],
            id="a failure while settling begins the time anew",
        ),
        pytest.param(
            ["old 5: a b", "down", "old 5: a b", "down", "6: a", "+20", "6: a"],
            [None, "a b stale since 2", None, None, None, None, "a"],
            id="where no leader answers, what is old is better than nobody",
        ),
        pytest.param(
            ["9: a", "old 5: a b", "down", "old 9: a", "down", "+20", "9: a"],
            ["a", None, "a stale since 3", None, None, None, "a"],
            id="what is older than what is known is not believed",
        ),
    ],
)
def test_a_watch_says(lines: list[str], news: list[str | None]) -> None:
    assert Play(watching())(*lines) == news


@pytest.mark.parametrize(
    ("answered", "asked"),
    [
        ([], 0),
        (["5: a"], 5),
        (["5: a", "9: a"], 9),
        (["9: a", "10: a"], 10),  # as texts, 10 would have gone backwards
        (["10: a", "9: a"], 0),
        (["10: a", "9: a", "9: a"], 9),
        (["0: a"], 1),
        (["5: a", "down"], 0),
    ],
)
def test_the_index_goes_on_and_starts_again_when_it_goes_back(
    answered: list[str], asked: int
) -> None:
    watch = watching()
    Play(watch)(*answered)

    assert watch.query(99.0).index == asked


def test_only_a_query_with_an_index_blocks() -> None:
    watch = watching()
    assert watch.query(0.0) == Query(index=0, wait=0.0, stale=True)

    Play(watch)("5: a")

    assert watch.query(1.0) == Query(index=5, wait=WAIT, stale=True)


def test_a_query_while_settling_returns_in_time_to_settle() -> None:
    watch = watching()
    Play(watch)("5: a", "down", "6:")

    assert watch.query(3.0).wait == SETTLE
    assert watch.query(12.0).wait == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("headers", "believed"),
    [
        ({"X-Consul-LastContact": "0"}, True),
        ({"X-Consul-LastContact": "5000"}, True),
        ({"X-Consul-LastContact": "5001"}, False),
        ({"X-Consul-KnownLeader": "false"}, False),
        ({}, True),
    ],
)
def test_an_answer_too_far_behind_the_leader_is_asked_of_the_leader(
    headers: dict[str, str], believed: bool
) -> None:
    watch = watching()
    news = watch.answered({"X-Consul-Index": "5"} | headers, b"a", 1.0, TODAY)

    assert (news is not None) is believed
    assert watch.query(1.0).stale is believed


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"a"),
        ({"X-Consul-Index": ""}, b"a"),
        ({"X-Consul-Index": "-1"}, b"a"),
        ({"X-Consul-Index": "many"}, b"a"),
        ({"X-Consul-Index": "5", "X-Consul-LastContact": "soon"}, b"a"),
        ({"X-Consul-Index": "5"}, b"?"),
    ],
)
def test_garbage_is_malformed_and_changes_nothing(headers: dict[str, str], body: bytes) -> None:
    watch = watching()
    Play(watch)("3: a")

    with pytest.raises(schema.Malformed):
        watch.answered(headers, body, 2.0, TODAY)

    assert watch.query(2.0).index == 3


def test_an_agent_that_answers_at_once_for_ever_is_asked_once_a_second() -> None:
    watch, now, asked = watching(), 0.0, 0
    while now < 10.0:
        watch.answered({"X-Consul-Index": "5"}, b"a", now, TODAY)
        now, asked = now + watch.delay + 0.001, asked + 1

    assert 10 <= asked <= 14


def test_thirty_changes_in_a_row_are_seen_without_delay() -> None:
    watch, delays = watching(), []
    for index in range(1, 31):
        watch.answered({"X-Consul-Index": str(index)}, b"a" * index, 0.01 * index, TODAY)
        delays.append(watch.delay)

    assert delays == [0.0] * 30


def test_failures_wait_longer_and_longer_up_to_two_seconds() -> None:
    watch, waits = watching(), []
    for _ in range(12):
        watch.failed(0.0, TODAY, Random(1))
        waits.append(watch.delay)

    assert all(0.05 * 2**number <= wait for number, wait in enumerate(waits[:5]))
    assert all(wait <= 2.0 for wait in waits)
