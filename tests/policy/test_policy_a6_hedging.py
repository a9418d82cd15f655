"""Hedges and their throttle against gRFC A6 written down as plainly as it is there."""

from hypothesis import given
from hypothesis import strategies as some

from mesh.call import Call, Idempotency, Method
from mesh.errors import CallFailed, Code
from mesh.flow import stack
from mesh.policy.budget import Throttle
from mesh.policy.hedge import Hedge, hedging
from mesh.testing import Clock, play
from mesh.testing.play import Takes

CALL = Method("/t/C", idempotency=Idempotency.IDEMPOTENT)
CODES = [Code.OK, Code.UNAVAILABLE, Code.ABORTED, Code.INVALID_ARGUMENT]
# Times are whole numbers of ticks, which add up exactly; 125 ms are eight of them.
TICK = 1 / 64
NEVER = float("inf")


class Oracle:
    """A6's words, one after the other."""

    def __init__(self, rule, max_tokens):
        self.rule, self.full, self.tokens = rule, max_tokens * 1000, max_tokens * 1000

    def call(self, script):
        """When each attempt is sent, the status that the caller gets and when; in ticks."""
        sent, running, stopped = [], {}, False
        due, now, last = 0, 0, Code.OK
        while True:
            # "hedged RPCs will be sent [...] until maxAttempts", "only the first [...]" throttled
            more = not sent or (
                not stopped and len(sent) < self.rule.attempts and self.tokens * 2 > self.full
            )
            answers = min((each[0] for each in running.values()), default=NEVER)
            # What comes at one moment: answers are heard before a delay is over.
            if more and (due <= now or due < answers):
                now = max(now, due)
                ticks, code, pushback = script[len(sent)]
                running[len(sent)] = (now + ticks, code, pushback)
                sent.append(now)
                due = now + round(self.rule.delay / TICK)
                continue
            if not running:
                return sent, last, now
            first = min(running, key=lambda number: running[number][0])
            now, code, pushback = running.pop(first)
            if code is Code.OK:
                # "all other outstanding hedged RPCs are canceled"
                self.tokens = min(self.full, self.tokens + round(self.rule.budget * 1000))
                return sent, code, now
            fatal = code not in self.rule.codes
            if not fatal or pushback == "no":
                self.tokens = max(0, self.tokens - 1000)
            if fatal:
                return sent, code, now
            last = code
            # "the next hedged request in line is sent immediately", or "n milliseconds later"
            stopped = stopped or pushback == "no"
            due = now + (round(pushback / 1000 / TICK) if isinstance(pushback, int) else 0)


rules = some.builds(
    Hedge,
    attempts=some.integers(2, 7),
    delay=some.integers(1, 20).map(lambda ticks: ticks * TICK),
    codes=some.sets(some.sampled_from(CODES[1:]), min_size=1).map(frozenset),
    budget=some.sampled_from([0.1, 0.333, 1.0]),
)
outcome = some.tuples(
    some.integers(1, 40),
    some.sampled_from([Code.UNAVAILABLE, *CODES]),
    some.sampled_from([None, None, None, "no", 0, 125]),
)
calls = some.lists(some.lists(outcome, min_size=5, max_size=5), min_size=1, max_size=8)


def played(ticks, code, pushback):
    if code is Code.OK:
        return Takes(ticks * TICK, "ok")
    value = "-1" if pushback == "no" else str(pushback)
    trailing = [] if pushback is None else [("grpc-retry-pushback-ms", value)]
    return Takes(ticks * TICK, CallFailed(code, trailing=trailing))


def noting(clock, sent):
    """A layer that notes when an attempt is sent."""

    def layer(call, inner):
        sent.append(clock() / TICK)
        return (yield from inner(call))

    return layer


def ending(statuses):
    """A layer that notes how the call ends."""

    def layer(call, inner):
        try:
            reply = yield from inner(call)
        except CallFailed as failure:
            statuses.append(failure.code)
            raise
        statuses.append(Code.OK)
        return reply

    return layer


@given(rule=rules, tokens=some.integers(1, 12), history=calls)
def test_every_history_of_hedged_calls_goes_as_a6_says(rule, tokens, history):
    throttle, oracle = Throttle(tokens), Oracle(rule, tokens)
    for script in history:
        clock, sent, statuses = Clock(), [], []
        hedged = hedging(rule, clock, throttle=throttle)
        flow = stack(ending(statuses), hedged, noting(clock, sent))
        play(flow, *(played(*each) for each in script), clock=clock, call=Call(CALL))

        assert (sent, statuses[0], clock() / TICK) == oracle.call(script)
        assert throttle.tokens == oracle.tokens / 1000
