"""A pool picks among the well, panics rather than drown them, and forgets nothing it must know."""

from random import Random

import pytest

from discovery.model import Endpoint, Health, Snapshot
from mesh.balance.lease import balancing
from mesh.balance.least_request import LeastRequest
from mesh.balance.pool import Arrangement, Pool
from mesh.balance.ring import RingHash
from mesh.balance.round_robin import RoundRobin
from mesh.balance.slow_start import SlowStart
from mesh.balance.split import Split
from mesh.balance.subset import Subset
from mesh.balance.zones import Zones
from mesh.call import Call, Idempotency, Method
from mesh.errors import CallFailed, Code, NoEndpoint
from mesh.flow import stack
from mesh.policy.outlier import Outlier
from mesh.telemetry.events import EndpointEjected, EndpointReturned, EndpointsChanged
from mesh.testing import Clock

GET = Method("/test/Get", idempotency=Idempotency.NO_SIDE_EFFECTS)
DOWN = CallFailed(Code.UNAVAILABLE)


def endpoint(name, **fields):
    fields.setdefault("port", 1000 + ord(name[0]))
    return Endpoint(name, "10.0.0.1", **fields)


def pool_of(*names, endpoints=None, ready=True, heard=None, **rules):
    pool = Pool()
    emit = heard.append if heard is not None else lambda _: None
    pool.adopt(Arrangement(balance=LeastRequest(), **rules), Random(1), emit)
    everyone = endpoints or [endpoint(name) for name in names]
    pool.publish(Snapshot("test", tuple(everyone)))
    for each in everyone if ready else ():
        pool.set_ready(each.id, True)
    return pool


def asked(pool, now=0.0, count=40):
    return {pool.pick(Call(GET), now).id for _ in range(count)}


def fail(pool, name, now=0.0, times=1):
    for _ in range(times):
        others = [each for each in pool.members if each != name]
        member = pool.pick(Call(GET, tried=others), now)
        assert member.id == name
        pool.failed(member, Call(GET), DOWN, now, now)


def test_only_who_is_ready_is_asked():
    pool = pool_of("a", "b", "c")
    pool.set_ready("b", False)
    assert asked(pool) == {"a", "c"}


def test_who_left_is_not_asked_and_its_calls_in_flight_end_in_peace():
    pool = pool_of("a", "b")
    member = pool.members["a"]
    steps = stack(balancing(pool, Clock()))(call := Call(GET, tried=["b"]))
    next(steps)
    assert call.endpoint.id == "a"
    pool.publish(Snapshot("test", (endpoint("b"),)))
    assert asked(pool) == {"b"}
    assert member.in_flight == 1
    steps.close()
    assert member.in_flight == 0


def test_an_endpoint_that_moved_is_a_new_one():
    pool = pool_of("a")
    old = pool.members["a"]
    pool.publish(Snapshot("test", (endpoint("a", port=9999),)))
    assert pool.members["a"] is not old
    pool.set_ready("a", True, old.endpoint.address)
    assert pool.pick(Call(GET), 0.0) is None  # said of the old address: too late
    pool.set_ready("a", True, "10.0.0.1:9999")
    assert asked(pool) == {"a"}


def test_what_the_registry_calls_critical_is_left_out():
    sick = endpoint("c", health=Health.CRITICAL)
    pool = pool_of(endpoints=[endpoint("a"), endpoint("b"), sick])
    assert asked(pool) == {"a", "b"}


def test_a_warning_is_no_reason_to_leave_out():
    pool = pool_of(endpoints=[endpoint("a"), endpoint("b", health=Health.WARNING)])
    assert asked(pool) == {"a", "b"}


@pytest.mark.parametrize("balance", [LeastRequest(), RoundRobin(), RingHash(header="key")])
def test_weight_nought_is_asked_only_when_nothing_else_is_left(balance):
    everyone = [endpoint("a"), endpoint("b", weight=0), endpoint("c", weight=0)]
    pool = pool_of(endpoints=everyone)
    pool.adopt(Arrangement(balance=balance), Random(1), lambda _: None)
    assert asked(pool) == {"a"}

    pool.set_ready("a", False)
    assert asked(pool) == {"b", "c"}


def test_with_fewer_than_half_well_all_are_asked():
    heard = []
    sick = [endpoint(name, health=Health.CRITICAL) for name in "bcd"]
    pool = pool_of(endpoints=[endpoint("a"), *sick], heard=heard)
    assert asked(pool) == {"a", "b", "c", "d"}
    assert heard[-1] == EndpointsChanged(4, 4, True)

    pool = pool_of(endpoints=[endpoint("a"), *sick], panic_threshold=0.0)
    assert asked(pool) == {"a"}


def test_everybody_critical_is_panic_and_not_nobody():
    pool = pool_of(endpoints=[endpoint(name, health=Health.CRITICAL) for name in "ab"])
    assert asked(pool) == {"a", "b"}


def test_nobody_known_and_nobody_reachable_are_said_apart():
    with pytest.raises(NoEndpoint, match="test: no endpoint is known"):
        pool_of().pick(Call(GET), 0.0)
    pool = pool_of("a", "b", ready=False)
    assert pool.pick(Call(GET), 0.0) is None  # still connecting
    pool.set_ready("a", False)
    pool.set_ready("b", False)
    with pytest.raises(NoEndpoint, match="test: none of 2 endpoints can be reached"):
        pool.pick(Call(GET), 0.0)
    assert pool.pick(Call(GET, wait_for_ready=True), 0.0) is None


def test_who_waits_is_woken_by_every_change():
    pool = Pool()
    waiting = pool.changed
    pool.publish(Snapshot("test", (endpoint("a"),)))
    assert waiting.is_set
    waiting = pool.changed
    assert not waiting.is_set
    pool.set_ready("a", True)
    assert waiting.is_set


def test_an_outlier_is_left_out_and_comes_back():
    heard = []
    rule = Outlier(
        consecutive_errors=3, interval=1.0, base_ejection_time=5.0, max_ejection_percent=50
    )
    pool = pool_of("a", "b", "c", outlier=rule, heard=heard)
    asked(pool)
    fail(pool, "b", times=3)

    assert asked(pool) == {"a", "c"}
    assert EndpointEjected("b", "consecutive_errors", 5.0) in heard
    assert asked(pool, now=4.0) == {"a", "c"}
    assert asked(pool, now=6.5) == {"a", "b", "c"}
    assert EndpointReturned("b") in heard


def test_the_only_endpoint_is_asked_even_when_ejected():
    pool = pool_of("a", outlier=Outlier(consecutive_errors=1))
    fail(pool, "a")
    assert asked(pool) == {"a"}
    assert pool.panic


def test_a_rule_taken_away_lets_everyone_back():
    pool = pool_of("a", "b", "c", outlier=Outlier(consecutive_errors=1))
    asked(pool)
    fail(pool, "b")
    assert asked(pool) == {"a", "c"}
    pool.adopt(Arrangement(balance=LeastRequest()), Random(1), lambda _: None)
    assert asked(pool, now=2.0) == {"a", "b", "c"}


def test_a_subset_is_all_that_is_connected_to_and_asked():
    pool = pool_of(*"abcdefgh", subset=Subset(size=3, seed=1))
    assert len(pool.members) == 3
    assert asked(pool) == set(pool.members)
    assert {each.id for each in pool.select(pool.snapshot.endpoints)} == set(pool.members)


def test_a_new_endpoint_gets_its_share_little_by_little():
    pool = pool_of("a", "b", slow_start=SlowStart(window=10.0))
    asked(pool, now=0.0)
    asked(pool, now=20.0)
    pool.publish(Snapshot("test", (endpoint("a"), endpoint("b"), endpoint("c"))))
    pool.set_ready("c", True)
    weights = []
    for now in (20.0, 25.5, 31.0):
        asked(pool, now)
        weights.append(pool.members["c"].weight)
    assert weights == [0.1, 0.5, 1.0]
    assert pool.members["a"].weight == 1.0


def test_a_split_goes_by_tag():
    canary = endpoint("v", tags=("v2",))
    pool = pool_of(
        endpoints=[endpoint("a"), canary], split=Split(shares={"v2": 0.0}, header="x-version")
    )
    assert asked(pool) == {"a"}
    call = Call(GET, metadata=(("x-version", "v2"),))
    assert pool.pick(call, 0.0).id == "v"


# -- zones


def zoned(heard=None):
    near = [endpoint(name, meta={"zone": "near"}) for name in "ab"]
    far = [endpoint(name, meta={"zone": "far"}) for name in "cd"]
    nowhere = [endpoint("e")]
    return pool_of(
        endpoints=[*near, *far, *nowhere],
        zones=Zones(order=("near", "far")),
        ready=False,
        heard=heard,
    )


def ready(pool, names, is_ready=True):
    for name in names:
        pool.set_ready(name, is_ready)


def test_the_nearest_zone_is_asked_while_anyone_there_is_ready():
    heard = []
    pool = zoned(heard)
    ready(pool, "abcde")
    assert asked(pool) == {"a", "b"}
    assert heard[-1].zone == "near"
    ready(pool, "a", False)
    assert asked(pool) == {"b"}


def test_a_zone_that_failed_is_left_at_once_and_come_back_to_at_once():
    pool = zoned()
    ready(pool, "abcde")
    ready(pool, "ab", False)
    assert asked(pool) == {"c", "d"}
    ready(pool, "cd", False)
    assert asked(pool) == {"e"}
    ready(pool, "b")
    assert asked(pool) == {"b"}


def test_a_zone_that_connects_has_ten_seconds():
    pool = zoned()
    ready(pool, "cd")
    assert pool.pick(Call(GET), 0.0) is None
    assert pool.pick(Call(GET), 9.9) is None
    assert asked(pool, now=10.0) == {"c", "d"}
    ready(pool, "a")
    assert asked(pool, now=11.0) == {"a"}


def test_a_zone_without_anybody_well_is_left():
    near = endpoint("a", meta={"zone": "near"}, health=Health.CRITICAL)
    far = endpoint("b", meta={"zone": "far"})
    pool = pool_of(endpoints=[near, far], zones=Zones(order=("near", "far")))
    assert asked(pool) == {"b"}


def test_when_no_zone_is_well_everyone_is_asked():
    ill = [
        endpoint(name, meta={"zone": zone}, health=Health.CRITICAL)
        for name, zone in (("a", "near"), ("b", "far"))
    ]
    pool = pool_of(endpoints=ill, zones=Zones(order=("near", "far")))
    assert asked(pool) == {"a", "b"}
