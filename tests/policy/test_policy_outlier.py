"""Outlier detection against gRFC A50 written down as plainly as it is there."""

from random import Random
from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.errors import PolicyError
from mesh.policy.outlier import Detector, FailurePercentage, Outlier, SuccessRate, Tally
from mesh.telemetry.events import EndpointEjected, EndpointReturned
from mesh.testing import Ceiling


class Oracle:
    """A50's words, one after the other, with Envoy's "at least" for the percentage."""

    def __init__(self, rule, names):
        self.rule = rule
        self.state = {name: [None, 0] for name in names}  # ejection time, multiplier

    def sweep(self, counts, now):
        rule, state = self.rule, self.state

        def eject(name):
            state[name] = [now, state[name][1] + 1]

        def full():
            ejected = sum(1 for since, _ in state.values() if since is not None)
            return ejected * 100 / len(state) >= rule.max_ejection_percent

        if (each := rule.success_rate) is not None:
            rates = {
                n: ok / (ok + bad)
                for n, (ok, bad) in counts.items()
                if ok + bad >= each.request_volume
            }
            if len(rates) >= each.minimum_hosts:
                threshold = mean(rates.values()) - pstdev(rates.values()) * (
                    each.stdev_factor / 1000
                )
                for name in state:
                    if full():
                        break
                    if name in rates and rates[name] < threshold and state[name][0] is None:
                        eject(name)
        if (each := rule.failure_percentage) is not None:
            busy = {
                n: (ok, bad) for n, (ok, bad) in counts.items() if ok + bad >= each.request_volume
            }
            if len(busy) >= each.minimum_hosts:
                for name in state:
                    if full():
                        break
                    if name in busy and state[name][0] is None:
                        ok, bad = busy[name]
                        if bad and 100 * bad / (ok + bad) >= each.threshold:
                            eject(name)
        for entry in state.values():
            if entry[0] is None:
                entry[1] = max(0, entry[1] - 1)
            else:
                base, longest = rule.base_ejection_time, rule.max_ejection_time
                if now > entry[0] + min(base * entry[1], max(base, longest)):
                    entry[0] = None


success_rates = some.none() | some.builds(
    SuccessRate,
    stdev_factor=some.sampled_from([500, 1000, 1900]),
    minimum_hosts=some.integers(1, 5),
    request_volume=some.integers(1, 20),
)
percentages = some.builds(
    FailurePercentage,
    threshold=some.integers(0, 100),
    minimum_hosts=some.integers(1, 5),
    request_volume=some.integers(1, 20),
)
rules = some.builds(
    Outlier,
    interval=some.just(1.0),
    base_ejection_time=some.sampled_from([1.0, 3.0]),
    max_ejection_time=some.sampled_from([0.5, 5.0]),
    max_ejection_percent=some.sampled_from([0, 10, 34, 50, 100]),
    success_rate=success_rates,
    failure_percentage=percentages,
    consecutive_errors=some.none(),
)
counts = some.tuples(some.integers(0, 30), some.integers(0, 30))


@given(
    rule=rules,
    history=some.integers(1, 7).flatmap(
        lambda hosts: some.lists(
            some.lists(counts, min_size=hosts, max_size=hosts), min_size=1, max_size=8
        )
    ),
)
def test_every_history_of_answers_goes_as_a50_says(rule, history):
    names = [f"e{place}" for place in range(len(history[0]))]
    tallies = [Tally(name) for name in names]
    # Ceiling draws just below 100 of 100: an enforcement of 100 percent always strikes.
    detector, oracle = Detector(rule, Ceiling(), lambda _: None), Oracle(rule, names)
    for interval, answers in enumerate(history):
        for tally, (ok, bad) in zip(tallies, answers, strict=True):
            tally.successes, tally.failures = ok, bad
        detector.sweep(tallies, float(interval))
        oracle.sweep(dict(zip(names, answers, strict=True)), float(interval))

        assert {t.name: [t.ejected_at, t.multiplier] for t in tallies} == oracle.state


def detector_of(rule, hosts=3, heard=None):
    tallies = [Tally(f"e{place}") for place in range(hosts)]
    emit = heard.append if heard is not None else lambda _: None
    return Detector(rule, Random(1), emit), tallies


def test_failures_in_a_row_eject_at_once():
    heard = []
    detector, tallies = detector_of(Outlier(consecutive_errors=3), heard=heard)
    assert [detector.failed(tallies[0], tallies, 5.0) for _ in range(3)] == [False, False, True]
    assert heard == [EndpointEjected("e0", "consecutive_errors", 30.0)]


def test_an_answer_in_between_begins_the_row_anew():
    detector, tallies = detector_of(Outlier(consecutive_errors=2))
    detector.failed(tallies[0], tallies, 0.0)
    tallies[0].succeeded()
    assert not detector.failed(tallies[0], tallies, 0.0)


def test_no_more_are_ejected_than_allowed_and_one_always_may_be():
    heard = []
    rule = Outlier(consecutive_errors=1, max_ejection_percent=10)
    detector, tallies = detector_of(rule, heard=heard)
    assert detector.failed(tallies[0], tallies, 0.0)
    assert not detector.failed(tallies[1], tallies, 0.0)
    assert heard[-1].unenforced == "max_ejection_overflow"


@pytest.mark.parametrize(("failures", "ejected"), [(16, False), (17, True), (18, True)])
def test_the_percentage_itself_is_enough(failures, ejected):
    """85 % is 17 of 20: Envoy's "at least", and that of A50's text."""
    detector, tallies = detector_of(
        Outlier(
            success_rate=None,
            consecutive_errors=None,
            failure_percentage=FailurePercentage(minimum_hosts=1, request_volume=20),
        )
    )
    tallies[0].successes, tallies[0].failures = 20 - failures, failures
    detector.sweep(tallies, 10.0)
    assert (tallies[0].ejected_at is not None) is ejected


def test_enforcement_of_nothing_only_tells():
    heard = []
    rule = Outlier(
        success_rate=None,
        consecutive_errors=None,
        failure_percentage=FailurePercentage(
            threshold=50, enforcement_percentage=0, minimum_hosts=1, request_volume=1
        ),
    )
    detector, tallies = detector_of(rule, hosts=1, heard=heard)
    tallies[0].failed()
    detector.sweep(tallies, 10.0)
    assert tallies[0].ejected_at is None
    assert heard == [EndpointEjected("e0", "failure_percentage", 0.0, "enforcement_percentage")]


def test_each_ejection_lasts_longer_and_good_intervals_are_forgiven():
    heard = []
    rule = Outlier(
        consecutive_errors=1, base_ejection_time=10.0, max_ejection_time=25.0, interval=10.0
    )
    detector, tallies = detector_of(rule, heard=heard)
    now, lasted = 0.0, []
    for _ in range(4):
        detector.failed(tallies[0], tallies, now)
        began = now
        while tallies[0].ejected_at is not None:
            now += 1.0
            detector.sweep(tallies, now)
        lasted.append(now - began)
    # The sweep that lets it back judges it as ejected, so nothing is forgiven in between.
    assert lasted == [11.0, 21.0, 26.0, 26.0]
    assert EndpointReturned("e0") in heard
    for _ in range(4):
        detector.sweep(tallies, now)
    assert tallies[0].multiplier == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Outlier(interval=0), "outlier.interval: 0 is not above 0"),
        (
            lambda: Outlier(max_ejection_percent=101),
            "outlier.max_ejection_percent: 101 is above 100",
        ),
        (
            lambda: Outlier(success_rate=None, failure_percentage=None, consecutive_errors=None),
            "outlier: None leaves nothing that could eject an endpoint",
        ),
        (
            lambda: FailurePercentage(threshold=-1),
            "outlier.failure_percentage.threshold: -1 is below 0",
        ),
    ],
)
def test_an_outlier_rule_that_makes_no_sense_says_which_field(make, message):
    with pytest.raises(PolicyError) as refused:
        make()
    assert str(refused.value) == message


def on_trial(detector, tallies):
    """The first, ejected by its failures in a row and let back at t=40."""
    while not detector.failed(tallies[0], tallies, 0.0):
        pass
    detector.sweep(tallies, 40.0)
    assert tallies[0].ejected_at is None
    return tallies[0]


def test_who_comes_back_and_fails_goes_again_at_once_and_for_longer():
    heard = []
    detector, tallies = detector_of(Outlier(consecutive_errors=3), heard=heard)
    back = on_trial(detector, tallies)

    assert detector.failed(back, tallies, 41.0)
    assert heard[-1] == EndpointEjected("e0", "consecutive_errors", 60.0)


def test_who_comes_back_and_answers_is_like_all_others():
    detector, tallies = detector_of(Outlier(consecutive_errors=3))
    back = on_trial(detector, tallies)
    back.succeeded()

    assert [detector.failed(back, tallies, 41.0) for _ in range(3)] == [False, False, True]


def test_without_a_rule_for_failures_in_a_row_nobody_is_on_trial():
    rule = Outlier(
        consecutive_errors=None, failure_percentage=FailurePercentage(minimum_hosts=1), interval=1.0
    )
    detector, tallies = detector_of(rule)
    tallies[0].failures = 60
    detector.sweep(tallies, 0.0)
    assert tallies[0].ejected_at == 0.0
    detector.sweep(tallies, 31.0)
    assert tallies[0].ejected_at is None
    assert not tallies[0].on_trial
