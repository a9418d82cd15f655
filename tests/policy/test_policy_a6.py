"""Retries and their throttle against gRFC A6 written down as plainly as it is there."""

from hypothesis import given, settings
from hypothesis import strategies as some

from mesh.call import Call, Idempotency, Method
from mesh.errors import CallFailed, Code
from mesh.flow import Sleep, stack
from mesh.policy.budget import Throttle
from mesh.policy.retry import Retry, retrying
from mesh.testing import Ceiling, play

CODES = [Code.UNAVAILABLE, Code.ABORTED, Code.INVALID_ARGUMENT, Code.NOT_FOUND]
CALL = Method("/t/C", idempotency=Idempotency.IDEMPOTENT)


class Oracle:
    """A6's words, one after the other."""

    def __init__(self, rule, max_tokens):
        self.rule, self.max_tokens, self.tokens = rule, max_tokens, max_tokens * 1000

    def call(self, outcomes):
        attempt, backoff = 1, 0
        said = []
        while True:
            said.append(f"attempt {attempt}")
            code, pushback = outcomes[attempt - 1]
            if code is Code.OK:
                self.tokens = min(
                    self.max_tokens * 1000, self.tokens + round(self.rule.budget * 1000)
                )
                return [*said, "ok"]
            retryable = code in self.rule.codes
            if retryable or pushback == "no":
                self.tokens = max(0, self.tokens - 1000)
            if not retryable or self.tokens <= self.max_tokens * 1000 / 2:
                return [*said, CallFailed]
            if attempt >= self.rule.attempts or pushback == "no":
                return [*said, CallFailed]
            if pushback is not None:
                wait, backoff = pushback / 1000, 0
            else:
                wait = min(self.rule.base * self.rule.multiplier**backoff, self.rule.cap) * 1.2
                backoff += 1
            if wait:
                said.append(Sleep(wait))
            attempt += 1


rules = some.builds(
    Retry,
    attempts=some.integers(2, 7),
    base=some.sampled_from([0.01, 0.05, 0.5]),
    cap=some.sampled_from([0.1, 1.0]),
    multiplier=some.sampled_from([1.0, 1.5, 2.0]),
    codes=some.sets(some.sampled_from(CODES), min_size=1).map(frozenset),
    budget=some.sampled_from([0.1, 0.333, 1.0]),
)
outcome = some.tuples(
    some.sampled_from([Code.OK, Code.UNAVAILABLE, *CODES]),
    some.sampled_from([None, None, None, "no", 0, 20]),
)
calls = some.lists(some.lists(outcome, min_size=5, max_size=5), min_size=1, max_size=12)


def played(code, pushback):
    if code is Code.OK:
        return "ok"
    value = "-1" if pushback == "no" else str(pushback)
    trailing = [] if pushback is None else [("grpc-retry-pushback-ms", value)]
    return CallFailed(code, trailing=trailing)


@given(rule=rules, tokens=some.integers(1, 12), history=calls)
def test_every_history_of_calls_goes_as_a6_says(rule, tokens, history):
    throttle, oracle = Throttle(tokens), Oracle(rule, tokens)
    flow = stack(retrying(rule, Ceiling(), throttle=throttle))
    for outcomes in history:
        said = play(flow, *(played(*each) for each in outcomes), call=Call(CALL))

        assert said == oracle.call(outcomes)
        assert throttle.tokens == oracle.tokens / 1000


@settings(max_examples=20)
@given(some.integers(1, 60), some.integers(2, 5))
def test_in_an_outage_retries_add_a_few_attempts_and_no_more(calls, attempts):
    throttle = Throttle()
    flow = stack(retrying(Retry(attempts=attempts), Ceiling(), throttle=throttle))
    down = CallFailed(Code.UNAVAILABLE)
    sent = sum(
        sum(1 for line in play(flow, *[down] * attempts) if isinstance(line, str))
        for _ in range(calls)
    )
    assert sent - calls <= 5
