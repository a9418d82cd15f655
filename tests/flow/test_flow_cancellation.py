"""Whatever is cancelled when, at any yield: no permit, lease, probe or place is ever lost."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as some

from discovery.model import Endpoint, Snapshot
from mesh.call import Call, Idempotency, Method
from mesh.column import Memory, column
from mesh.errors import CallFailed, Code, DeadlineSpent, MeshError, Processed
from mesh.flow import Attempt, Race, Sleep, Wait
from mesh.policy.adaptive import AdaptiveLimit
from mesh.policy.breaker import Breaker
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.circuit import State
from mesh.policy.config import Policy
from mesh.policy.fault import Delay, Fault
from mesh.policy.hedge import Hedge
from mesh.policy.retry import Retry
from mesh.policy.throttle import ClientThrottle
from mesh.testing import Clock

GET = Method("/test/Get", idempotency=Idempotency.NO_SIDE_EFFECTS)
SHARED = {
    "timeout": 20.0,
    "attempt_timeout": 2.0,
    "bulkhead": Bulkhead(limit=3, queue=3, wait=1.0),
    "breaker": Breaker(failures=1, cooldown=0.2, growth=1.0, probes=2, probe_seconds=0),
    "concurrency": AdaptiveLimit(initial=5, least=4),
    "throttle": ClientThrottle(),
    "fault": Fault(delay=Delay(seconds=0.1, per_million=300_000), max_active=2),
}
POLICIES = [
    Policy(retry=Retry(attempts=4), **SHARED),
    Policy(hedge=Hedge(attempts=3, delay=0.05), **SHARED),
]
ACTIONS = ["start", "start", *["move"] * 4, "close", "close", "expire", "tick", "tick", "publish"]
OUTCOMES = [
    "ok",
    lambda: CallFailed(Code.UNAVAILABLE),
    lambda: CallFailed(Code.UNAVAILABLE, processed=Processed.NO),
    lambda: CallFailed(Code.DEADLINE_EXCEEDED),
    lambda: CallFailed(Code.NOT_FOUND),
    lambda: CallFailed(Code.RESOURCE_EXHAUSTED),
]


class Player:
    """Moves one flow, or a branch of one, a step at a time, as drivers may."""

    def __init__(self, steps, call):
        self.steps, self.call, self.step, self.ended = steps, call, None, False
        self.branches = {}
        self._go(lambda: next(steps))

    def _go(self, resume):
        try:
            self.step = resume()
        except (StopIteration, MeshError):
            self.ended = True

    def move(self, outcome, choice):
        step = self.step
        if isinstance(step, Race):
            return self._race(step, outcome, choice)
        answer = None
        if isinstance(step, Attempt):
            answer = outcome() if callable(outcome) else outcome
        elif isinstance(step, Wait):
            answer = step.signal.is_set
        if isinstance(answer, MeshError):
            return self._go(lambda: self.steps.throw(answer))
        return self._go(lambda: self.steps.send(answer))

    def expire(self):
        late = CallFailed if isinstance(self.step, Attempt) else DeadlineSpent
        error = late(Code.DEADLINE_EXCEEDED) if late is CallFailed else late("late")
        self._go(lambda: self.steps.throw(error))

    def _race(self, race, outcome, choice):
        for branch in race.branches:
            if branch not in self.branches:
                player = self.branches[branch] = Player(branch.steps, self.call)
                branch.on_close = player.close
                self._settle(branch)
        done = [branch for branch in race.branches if branch.done]
        if not done and choice % 3:
            branch = race.branches[choice % len(race.branches)]
            self.branches[branch].move_branch(branch, outcome, choice)
            self._settle(branch)
            return
        winner = done[0] if done else None
        if winner is None and race.seconds is None:
            return
        self._go(lambda: self.steps.send(winner))

    def move_branch(self, branch, outcome, choice):
        try:
            step = self.step
            answer = (
                (outcome() if callable(outcome) else outcome)
                if isinstance(step, Attempt)
                else step.signal.is_set
                if isinstance(step, Wait)
                else None
            )
            if isinstance(answer, MeshError):
                self.step = self.steps.throw(answer)
            else:
                self.step = self.steps.send(answer)
        except StopIteration as done:
            self.ended, branch.reply = True, done.value
        except MeshError as error:
            self.ended, branch.error = True, error

    def _settle(self, branch):
        if self.branches[branch].ended:
            branch.done, branch.on_close = True, None
            if branch.error is None and branch.reply is None:
                branch.error = CallFailed(Code.UNAVAILABLE)

    def close(self):
        self.ended = True
        self.steps.close()


def snapshot(count):
    return Snapshot("t", tuple(Endpoint(f"e{n}", "127.0.0.1", n + 1) for n in range(count)))


moves = some.lists(
    some.tuples(
        some.sampled_from(ACTIONS),
        some.integers(0, 11),
        some.sampled_from(OUTCOMES),
    ),
    min_size=40,
    max_size=120,
)


@settings(max_examples=50)
@given(policy=some.sampled_from(POLICIES), history=moves, seed=some.integers(0, 9))
def test_nothing_taken_is_ever_lost(policy, history, seed):
    clock, memory, heard = Clock(), Memory(), []
    flow = column(policy, memory, clock=clock, rng=Random(seed), emit=heard.append)
    memory.publish(snapshot(3))
    for name in ("e0", "e1", "e2"):
        memory.set_ready(name, True)
    members = set(memory.pool.members.values())
    players = []
    for action, number, outcome in history:
        if action == "start":
            call = Call(GET)
            players.append(Player(flow(call), call))
        elif action == "tick":
            clock.advance(number / 4)
            memory.set_ready(f"e{number % 3}", number < 9)
        elif action == "publish":
            memory.publish(snapshot(1 + number % 3))
            members |= set(memory.pool.members.values())
        elif players:
            player = players[number % len(players)]
            if action == "close":
                player.close()
            elif action == "expire" and not player.ended:
                player.expire()
            elif not player.ended:
                player.move(outcome, number)
        players = [player for player in players if not player.ended]
        compartment = memory.rules.compartments.get("")
        assert compartment is None or compartment.in_flight <= 3
    for player in players:
        player.close()

    assert all(member.in_flight == 0 for member in members)
    assert memory.pool.waiting == memory.rules.faults.count == 0
    for compartment in memory.rules.compartments.values():
        assert compartment.in_flight == compartment.waiting == 0
    assert memory.rules.concurrency("", policy.concurrency).in_flight == 0
    clock.advance(1000.0)
    for member in members:
        for circuit in member.circuits.values():
            assert circuit.admits(clock()), circuit.state
            if circuit.state is State.HALF_OPEN:
                assert circuit._admitted == circuit._answered


def test_a_sleep_that_is_cut_short_gives_everything_back():
    clock, memory = Clock(), Memory()
    flow = column(POLICIES[0], memory, clock=clock, rng=Random(5))
    memory.publish(snapshot(1))
    memory.set_ready("e0", True)
    steps = flow(Call(GET))
    step = next(steps)
    while not isinstance(step, Sleep) or memory.rules.faults.count:
        error = CallFailed(Code.UNAVAILABLE)
        step = steps.throw(error) if isinstance(step, Attempt) else steps.send(None)
    steps.close()
    assert memory.in_flight("e0") == 0
    assert memory.rules.compartments[""].in_flight == 0
