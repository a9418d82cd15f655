"""A policy is data: checked when made, read and printed as JSON, replaced only by a good one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.balance.least_request import LeastRequest
from mesh.balance.ring import RingHash
from mesh.balance.round_robin import RoundRobin
from mesh.balance.slow_start import SlowStart
from mesh.balance.split import Split
from mesh.balance.subset import Subset
from mesh.balance.zones import Zones
from mesh.errors import Code, PolicyError
from mesh.policy.adaptive import AdaptiveLimit
from mesh.policy.breaker import Breaker
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.config import Policy, Rules
from mesh.policy.fallback import Fallback
from mesh.policy.fault import Abort, Delay, Fault
from mesh.policy.hedge import Hedge
from mesh.policy.limit import RateLimit
from mesh.policy.outlier import FailurePercentage, Outlier, SuccessRate
from mesh.policy.retry import Retry
from mesh.policy.service_config import dump, load
from mesh.policy.standing import Standing
from mesh.policy.throttle import ClientThrottle
from mesh.telemetry.events import PolicyChanged, PolicyRefused

GET = "shop.orders.v1.OrderService/GetOrder"
WHOLE = {
    "methodConfig": [
        {
            "name": [{}],
            "timeout": "2s",
            "waitForReady": True,
            "attemptTimeout": "0.5s",
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "aborted", 4],
            },
            "circuitBreaker": {"consecutiveFailures": None, "failureRate": 0.5, "window": "60s"},
            "bulkhead": {"maxInFlight": 8, "maxQueued": 2, "maxWait": "0.25s"},
        },
        {
            "name": [{"service": "shop.orders.v1.OrderService", "method": "GetOrder"}],
            "hedgingPolicy": {
                "maxAttempts": 3,
                "hedgingDelay": "0.05s",
                "nonFatalStatusCodes": ["UNAVAILABLE"],
            },
        },
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.5},
    "healthCheckConfig": {"serviceName": "shop.orders.v1.OrderService"},
    "loadBalancingConfig": [
        {"unheard_of_experimental": {}},
        {
            "outlier_detection_experimental": {
                "interval": "5s",
                "successRateEjection": {},
                "childPolicy": [{"round_robin": {}}],
            }
        },
    ],
}


def test_a_service_config_is_read_under_grpcs_own_names():
    assert load(json.dumps(WHOLE)) == Policy(
        timeout=2.0,
        wait_for_ready=True,
        attempt_timeout=0.5,
        retry=Retry(
            attempts=4,
            base=0.1,
            cap=1.0,
            codes=frozenset({Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED}),
            budget=0.5,
        ),
        breaker=Breaker(failures=None, failure_rate=0.5, window_seconds=60.0),
        bulkhead=Bulkhead(limit=8, queue=2, wait=0.25),
        retry_tokens=20,
        health_check="shop.orders.v1.OrderService",
        balance=RoundRobin(),
        outlier=Outlier(
            interval=5.0,
            success_rate=SuccessRate(),
            failure_percentage=None,
            consecutive_errors=None,
        ),
        methods={GET: Rules(hedge=Hedge(attempts=3, delay=0.05, budget=0.5))},
    )


def broken(path, value):
    """The whole config with one thing in it replaced (or taken away, when value is ...)."""
    config = json.loads(json.dumps(WHOLE))
    place = config
    *way, last = path
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(config)


FIRST = ("methodConfig", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            (*FIRST, "retryPolicy", "maxAttempts"),
            1,
            "$.methodConfig[0].retryPolicy.maxAttempts: 1 is below 2",
        ),
        (
            (*FIRST, "retryPolicy", "maxAttempts"),
            "3",
            "$.methodConfig[0].retryPolicy.maxAttempts: '3' expected `int`, got `str`",
        ),
        (
            (*FIRST, "retryPolicy", "initialBackoff"),
            "0s",
            "$.methodConfig[0].retryPolicy.initialBackoff: 0.0 is not above 0",
        ),
        (
            (*FIRST, "retryPolicy", "retryableStatusCodes"),
            [],
            "$.methodConfig[0].retryPolicy.retryableStatusCodes: frozenset() names no status",
        ),
        (
            (*FIRST, "retryPolicy", "retryableStatusCodes", 1),
            "GONE",
            "$.methodConfig[0].retryPolicy.retryableStatusCodes[1]: 'GONE' is not a status code",
        ),
        ((*FIRST, "retryPolicy", "backoffMultiplier"), ..., "$.methodConfig[0].retryPolicy: "),
        ((*FIRST, "timeout"), "5", "$.methodConfig[0].timeout: '5' expected `str` matching regex"),
        ((*FIRST, "timeout"), 5, "$.methodConfig[0].timeout: 5 expected `str`, got `int`"),
        ((*FIRST, "retryPolcy"), {}, "$.methodConfig[0].retryPolcy: '{}' is not a field we know"),
        (
            (*FIRST, "bulkhead", "maxInFlight"),
            0,
            "$.methodConfig[0].bulkhead.maxInFlight: 0 is below 1",
        ),
        (
            (*FIRST, "circuitBreaker", "failureRate"),
            50,
            "$.methodConfig[0].circuitBreaker.failureRate: 50.0 is not above 0 and at most 1",
        ),
        (
            (*FIRST, "hedgingPolicy"),
            {"maxAttempts": 2, "hedgingDelay": "1s", "nonFatalStatusCodes": []},
            "$.methodConfig[0].hedgingPolicy: Hedge(",
        ),
        (("methodConfig", 1, "name"), [], "$.methodConfig[1].name: [] names no method"),
        (
            ("methodConfig", 1, "name"),
            [{}],
            "$.methodConfig[1].name: '{}' has a methodConfig already",
        ),
        (
            ("methodConfig", 1, "name"),
            [{"method": "GetOrder"}],
            "$.methodConfig[1].name[0].method: 'GetOrder' has no service",
        ),
        (("retryThrottling", "maxTokens"), 0, "$.retryThrottling.maxTokens: 0 is below 1"),
        (("retryThrottling", "tokenRatio"), 0, "$.retryThrottling.tokenRatio: 0.0 is not above 0"),
        (("loadBalancingConfig",), [{"rls": {}}], "$.loadBalancingConfig: ['rls'] are all unknown"),
        (
            ("loadBalancingConfig", 0),
            {"a": {}, "b": {}},
            "$.loadBalancingConfig[0]: {'a': {}, 'b': {}} does not hold exactly one policy",
        ),
        (
            ("loadBalancingConfig",),
            [{"ring_hash_experimental": {"requestHashHeader": "X"}}],
            "$.loadBalancingConfig[0].ring_hash_experimental.requestHashHeader: 'X' is not",
        ),
        (("panicThreshold",), 2, "$.panicThreshold: 2.0 is not between 0 and 1"),
        (("zones",), {"order": []}, "$.zones.order: () is not a list of different zones"),
    ],
)
def test_what_is_wrong_is_named_by_path_and_value(path, value, message):
    with pytest.raises(PolicyError) as refused:
        load(broken(path, value))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"policy"', b"\xff"])
def test_what_is_no_service_config_is_refused(text):
    with pytest.raises(PolicyError, match=r"^\$: "):
        load(text)


def _rules():
    return {
        "timeout": some.none() | some.sampled_from([0.0, 0.5, 30.0]),
        "attempt_timeout": some.none() | some.sampled_from([0.001, 1.0]),
        "breaker": some.none()
        | some.builds(
            Breaker,
            failures=some.none() | some.integers(1, 9),
            failure_rate=some.sampled_from([0.1, 0.5]),
            slow_rate=some.none() | some.just(1.0),
            cooldown=some.sampled_from([0.5, 30.0]),
            probes=some.integers(1, 5),
        ),
        "bulkhead": some.none() | some.builds(Bulkhead, limit=some.integers(1, 99)),
        "rate_limit": some.none()
        | some.builds(RateLimit, rate=some.sampled_from([0.5, 100.0]), key=some.just("x-t")),
        "throttle": some.none() | some.builds(ClientThrottle, k=some.sampled_from([1.5, 2.0])),
        "concurrency": some.none() | some.builds(AdaptiveLimit, initial=some.integers(10, 99)),
        "fallback": some.none() | some.just(Fallback(last_good=True, vary=())),
        "fault": some.none()
        | some.just(Fault(delay=Delay(seconds=0.5), abort=Abort(code=Code.ABORTED), max_active=3)),
        "wait_for_ready": some.booleans(),
    }


repeats = some.sampled_from(
    [{}, {"retry": Retry(attempts=4)}, {"retry": Retry(budget=0.25)}, {"hedge": Hedge(delay=0.3)}]
)
rules = some.tuples(some.fixed_dictionaries(_rules()), repeats).map(lambda two: two[0] | two[1])
targets = some.fixed_dictionaries(
    {
        "balance": some.sampled_from(
            [RoundRobin(weighted=False), LeastRequest(choices=4), RingHash(header="x-user")]
        ),
        "outlier": some.none()
        | some.just(Outlier())
        | some.just(Outlier(success_rate=None, failure_percentage=FailurePercentage(threshold=9))),
        "subset": some.none() | some.just(Subset(size=3, seed=9)),
        "zones": some.none() | some.just(Zones(order=("a", "b"))),
        "slow_start": some.none() | some.just(SlowStart(window=5.0)),
        "split": some.none() | some.just(Split(shares={"v2": 0.25}, by="x-user")),
        "health_check": some.sampled_from([None, "", "pkg.Service"]),
        "panic_threshold": some.sampled_from([0.0, 0.5]),
        "retry_tokens": some.integers(1, 1000),
    }
)


@given(
    base=rules, target=targets, methods=some.dictionaries(some.sampled_from([GET, "a.B"]), rules)
)
def test_every_policy_is_read_as_it_was_printed(base, target, methods):
    own = {name: Rules(**each) for name, each in methods.items()}
    policy = Policy(**base, **target, methods=own)
    assert load(dump(policy)) == policy


def test_production_can_be_printed_and_read():
    assert load(dump(Policy.production())) == Policy.production()


def test_what_only_code_can_say_is_not_printed_silently_wrong():
    with pytest.raises(PolicyError, match=r"fallback.value: 7 cannot be written as JSON"):
        dump(Policy(fallback=Fallback(value=7)))


def test_the_rules_of_a_method_beat_its_services_beat_the_policys():
    policy = (
        Policy(timeout=1.0, retry=Retry())
        .override("shop.orders.v1.OrderService", timeout=2.0)
        .override(GET, timeout=3.0, retry=None)
    )
    assert policy.rules("/" + GET) == Rules(timeout=3.0)
    assert policy.rules("/shop.orders.v1.OrderService/ListOrders").timeout == 2.0
    assert policy.rules("/shop.orders.v1.OrderService/ListOrders").retry == Retry()
    assert policy.rules("/other.Service/Get") is policy


def test_policies_are_equal_by_value_and_cannot_be_changed():
    assert Policy.production() == Policy.production()
    assert hash(Policy.production()) == hash(Policy.production())
    with pytest.raises(AttributeError):
        Policy().timeout = 3.0
    with pytest.raises(TypeError):
        Policy().methods["a.B"] = Rules()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Policy(timeout=-1), "policy.timeout: -1 is below 0"),
        (lambda: Policy(attempt_timeout=0), "policy.attempt_timeout: 0 is not above 0"),
        (lambda: Policy(retry=3), "policy.retry: 3 is not of kind Retry"),
        (lambda: Policy(balance="round_robin"), "policy.balance: 'round_robin' is not a balance"),
        (lambda: Policy(retry_tokens=1001), "policy.retry_tokens: 1001 is above 1000"),
        (lambda: Policy(wait_for_ready=1), "policy.wait_for_ready: 1 is not true or false"),
        (lambda: Policy(methods={"/a.B/C": Rules()}), "policy.methods: '/a.B/C' is not"),
        (lambda: Policy(methods={"a.B": Policy()}), "policy.methods[a.B]: "),
        (lambda: Policy().override("a.B", balance=RoundRobin()), "policy.methods[a.B].balance: "),
        (lambda: Policy(retry=Retry(), hedge=Hedge()), "policy.hedge: "),
    ],
)
def test_a_policy_that_makes_no_sense_says_which_field(make, message):
    with pytest.raises(PolicyError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_the_last_good_policy_stays():
    used, heard = [], []
    standing = Standing(Policy(), used.append, heard.append)

    assert standing.offer(dump(Policy(timeout=3.0)), "file")
    assert not standing.offer(broken((*FIRST, "timeout"), "soon"), "file")
    assert standing.policy == Policy(timeout=3.0)
    assert standing.refused.startswith("$.methodConfig[0].timeout: 'soon'")
    assert standing.offer(dump(Policy(timeout=3.0)), "file")  # the same again is no change

    assert used == [Policy(timeout=3.0)]
    assert [type(event) for event in heard] == [PolicyChanged, PolicyRefused]
    assert standing.refused == ""
