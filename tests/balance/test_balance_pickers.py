"""Pickers choose fairly, pass over who is shunned, and do the same in every process."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from discovery.model import Endpoint
from mesh.balance.latency import Latency
from mesh.balance.least_request import LeastRequest
from mesh.balance.member import Member
from mesh.balance.ring import RingHash
from mesh.balance.round_robin import RoundRobin
from mesh.balance.slow_start import SlowStart
from mesh.balance.split import Split
from mesh.balance.subset import Subset
from mesh.call import Call, Method
from mesh.errors import PolicyError

CALL = Call(Method("/test/Call"))


def members(**weights):
    return [
        Member(Endpoint(name, "10.0.0.1", 1000 + place, weight=weight))
        for place, (name, weight) in enumerate(weights.items())
    ]


def keyed(value, header="x-user"):
    return Call(Method("/test/Call"), metadata=((header, value),))


def picks(picker, count, call=CALL, shunned=frozenset()):
    return "".join(picker.pick(call, 0.0, shunned).id for _ in range(count))


def test_round_robin_goes_round():
    assert picks(RoundRobin().picker(members(a=1, b=1, c=1), Random(1)), 7) in "abcabcabcabc"


def test_clients_do_not_all_begin_with_the_same_server():
    firsts = {picks(RoundRobin().picker(members(a=1, b=1, c=1), Random(s)), 1) for s in range(20)}
    assert firsts == {"a", "b", "c"}


def test_weights_are_kept_smoothly():
    turns = picks(RoundRobin().picker(members(a=5, b=1, c=1), Random(1)), 700)
    assert Counter(turns) == {"a": 500, "b": 100, "c": 100}
    assert "aaaaa" not in turns


def test_weights_may_be_ignored():
    turns = picks(RoundRobin(weighted=False).picker(members(a=5, b=1), Random(1)), 10)
    assert Counter(turns) == {"a": 5, "b": 5}


rules = some.sampled_from(
    [RoundRobin(), LeastRequest(), LeastRequest(choices=3, latency=True), RingHash(header="x-user")]
)


@given(
    rule=rules,
    weights=some.lists(some.integers(1, 5), min_size=1, max_size=6),
    data=some.data(),
)
def test_whoever_is_shunned_is_never_picked_and_someone_else_always(rule, weights, data):
    everyone = members(**{f"e{place}": weight for place, weight in enumerate(weights)})
    picker = rule.picker(everyone, Random(1))
    names = [member.id for member in everyone]
    shunned = data.draw(some.sets(some.sampled_from(names)))
    for _ in range(5):
        picked = picker.pick(keyed("alice"), 0.0, shunned)
        assert (picked is None) == (shunned == set(names))
        assert picked is None or picked.id not in shunned


def test_least_request_takes_the_less_loaded_of_two():
    pair = members(a=1, b=1)
    pair[0].in_flight = 3
    assert picks(LeastRequest().picker(pair, Random(1)), 20) == "b" * 20


def test_the_two_are_never_the_same():
    # With replacement a hung endpoint would be compared with itself and win.
    three = members(a=1, b=1, c=1)
    three[0].in_flight = 50
    assert "a" not in picks(LeastRequest().picker(three, Random(1)), 300)


def test_a_tie_is_decided_by_lot():
    turns = Counter(picks(LeastRequest().picker(members(a=1, b=1, c=1), Random(1)), 3000))
    assert all(900 < turns[name] < 1100 for name in "abc")


def test_least_request_honours_weights():
    pair = members(a=4, b=1)
    pair[0].in_flight, pair[1].in_flight = 3, 1
    assert picks(LeastRequest().picker(pair, Random(1)), 10) == "a" * 10


def test_more_choices_find_the_least_of_more():
    many = members(a=1, b=1, c=1, d=1)
    for load, member in enumerate(many):
        member.in_flight = load
    assert picks(LeastRequest(choices=4).picker(many, Random(1)), 10) == "a" * 10


def test_with_latency_a_slow_answerer_is_avoided_until_it_is_forgotten():
    pair = members(a=1, b=1)
    pair[0].latency.add(1.0, now=0.0)
    pair[1].latency.add(0.01, now=0.0)
    picker = LeastRequest(latency=True).picker(pair, Random(1))
    assert {picker.pick(CALL, 1.0).id for _ in range(20)} == {"b"}
    pair[1].latency.add(0.01, now=300.0)
    assert {picker.pick(CALL, 300.0).id for _ in range(20)} == {"a"}


def test_latency_believes_bad_news_at_once_and_good_news_slowly():
    latency = Latency()
    latency.add(0.1, now=0.0)
    latency.add(2.0, now=1.0)
    assert latency.at(1.0) == 2.0
    latency.add(0.1, now=2.0)
    assert 1.6 < latency.at(2.0) < 1.9


def test_a_ring_sends_the_same_key_to_the_same_place():
    rule = RingHash(header="x-user")
    one, other = (rule.picker(members(a=1, b=1, c=1), Random(seed)) for seed in (1, 2))
    for user in range(50):
        assert picks(one, 2, keyed(str(user))) == picks(other, 1, keyed(str(user))) * 2


def test_when_one_leaves_the_ring_most_other_keys_stay():
    rule, everyone = RingHash(header="x-user"), members(a=1, b=1, c=1, d=1)
    before, after = rule.picker(everyone, Random(1)), rule.picker(everyone[:3], Random(1))
    homes = [(picks(before, 1, keyed(str(n))), picks(after, 1, keyed(str(n)))) for n in range(500)]
    kept = [was == now for was, now in homes if was != "d"]
    assert sum(kept) / len(kept) > 0.75


def test_a_ring_shares_by_weight():
    ring = RingHash(header="x-user").picker(members(a=3, b=1), Random(1))
    homes = Counter(picks(ring, 1, keyed(str(user))) for user in range(2000))
    assert 0.68 < homes["a"] / 2000 < 0.82


@pytest.mark.parametrize(
    ("weights", "places"),
    [
        # At least 1024, and so many that the smallest weight has a whole number of them ...
        ({"a": 1, "b": 1, "c": 1}, 1026),
        ({"a": 3, "b": 7}, 1027),
        ({"a": 1, "b": 100}, 1111),
        # ... but no more than 4096 in all.
        ({"a": 1, "b": 5000}, 4096),
    ],
)
def test_a_ring_has_at_least_1024_places_and_at_most_4096(weights, places):
    rule = RingHash(header="x-user")
    assert len(rule.picker(members(**weights), Random(1))) == places


def test_without_the_header_a_call_goes_anywhere():
    ring = RingHash(header="x-user").picker(members(a=1, b=1), Random(1))
    assert set(picks(ring, 50)) == {"a", "b"}


def test_a_subset_is_small_repeatable_and_changes_little():
    endpoints = [Endpoint(f"e{n}", "10.0.0.1", 1000 + n) for n in range(60)]
    rule = Subset(size=10)
    mine = rule.choose(endpoints, seed=7)
    assert len(mine) == 10
    assert rule.choose(list(reversed(endpoints)), seed=7) == tuple(reversed(mine))
    fewer = rule.choose([e for e in endpoints if e != mine[0]], seed=7)
    assert len(set(mine) - set(fewer)) == 1
    assert rule.choose(endpoints[:10], seed=7) == tuple(endpoints[:10])


def test_subsets_of_many_clients_cover_all_evenly():
    endpoints = [Endpoint(f"e{n}", "10.0.0.1", 1000 + n) for n in range(20)]
    load = Counter(e.id for seed in range(400) for e in Subset(size=5).choose(endpoints, seed))
    assert len(load) == 20
    assert all(60 < count < 145 for count in load.values())


def test_a_seed_of_ones_own_beats_the_clients():
    endpoints = [Endpoint(f"e{n}", "10.0.0.1", 1000 + n) for n in range(20)]
    rule = Subset(size=3, seed=5)
    assert rule.choose(endpoints, 1) == rule.choose(endpoints, 2)


def test_slow_start_rises_to_the_whole_share():
    rule = SlowStart(window=10.0, least=0.1)
    assert [rule.share(age) for age in (0, 2.5, 5, 9.9, 10, 50)] == [0.1, 0.2, 0.5, 0.9, 1.0, 1.0]
    assert SlowStart(window=10.0, aggression=2.0).share(5) > 0.7


# -- splits


def versions():
    tagged = {"old1": (), "old2": (), "new1": ("v2",)}
    return [
        Member(Endpoint(name, "10.0.0.1", 1000 + n, tags=tags))
        for n, (name, tags) in enumerate(tagged.items())
    ]


def splitter(rule, everyone=None):
    rng = Random(1)
    return rule.picker(everyone or versions(), rng, lambda some: RoundRobin().picker(some, rng))


def test_a_canary_gets_its_share():
    picker = splitter(Split(shares={"v2": 0.05}))
    seen = Counter(picker.pick(CALL, 0.0).id for _ in range(4000))
    assert 140 < seen["new1"] < 260
    assert abs(seen["old1"] - seen["old2"]) < 5


def test_a_user_never_flaps_between_versions():
    picker = splitter(Split(shares={"v2": 0.3}, by="x-user"))
    homes = {}
    for user in range(300):
        homes[user] = {picker.pick(keyed(str(user)), 0.0).id[:3] for _ in range(5)}
    assert all(len(home) == 1 for home in homes.values())
    assert 60 < sum(home == {"new"} for home in homes.values()) < 120


def test_a_growing_share_only_adds_users():
    small, large = (splitter(Split(shares={"v2": share}, by="x-user")) for share in (0.1, 0.4))
    for user in range(300):
        if small.pick(keyed(str(user)), 0.0).id == "new1":
            assert large.pick(keyed(str(user)), 0.0).id == "new1"


def test_a_header_names_the_version():
    picker = splitter(Split(shares={"v2": 0.0}, header="x-version"))
    assert picker.pick(keyed("v2", "x-version"), 0.0).id == "new1"
    assert picker.pick(keyed("v9", "x-version"), 0.0).id.startswith("old")


def test_a_version_that_is_not_there_gets_nothing():
    picker = splitter(Split(shares={"v2": 1.0}), versions()[:2])
    assert picker.pick(CALL, 0.0).id.startswith("old")


def test_a_canary_that_failed_is_no_reason_to_fail_the_call():
    picker = splitter(Split(shares={"v2": 1.0}))
    assert picker.pick(CALL, 0.0, {"new1"}).id.startswith("old")
    assert picker.pick(CALL, 0.0, {"new1", "old1", "old2"}) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeastRequest(choices=11), "least_request.choices: 11 is above 10"),
        (lambda: RingHash(header="X-User"), "ring_hash.header: 'X-User' is not a lowercase"),
        (lambda: Subset(size=0), "subset.size: 0 is below 1"),
        (lambda: Split(shares={"a": 0.7, "b": 0.7}), "split.shares: {'a': 0.7, 'b': 0.7} is more"),
        (lambda: Split(), "split.shares: {} names no version"),
        (lambda: SlowStart(least=0), "slow_start.least: 0 is not above 0 and at most 1"),
    ],
)
def test_a_rule_that_makes_no_sense_says_which_field(make, message):
    with pytest.raises(PolicyError) as refused:
        make()
    assert str(refused.value).startswith(message)
