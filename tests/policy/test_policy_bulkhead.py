"""A bulkhead lets exactly so many in, and nobody's place is ever lost."""

from hypothesis import given
from hypothesis import strategies as some

from mesh.call import Call, Method
from mesh.errors import BulkheadFull
from mesh.flow import Attempt, Wait, stack
from mesh.policy.bulkhead import Bulkhead, Compartment, bounding
from mesh.testing import play

CALL = Method("/test/Call")


def bulkhead(**fields):
    compartment = Compartment(Bulkhead(**fields))
    return compartment, stack(bounding(compartment))


def test_one_too_many_is_refused():
    compartment, flow = bulkhead(limit=1)
    first = flow(Call(CALL))
    next(first)
    assert play(flow) == [BulkheadFull]
    first.close()
    assert play(flow, "ok") == ["attempt 1", "ok"]
    assert compartment.in_flight == 0


def test_who_waits_comes_in_when_somebody_leaves():
    compartment, flow = bulkhead(limit=1, queue=1, wait=0.5)
    first, second = flow(Call(CALL)), flow(Call(CALL))
    next(first)
    wait = next(second)
    assert isinstance(wait, Wait)
    assert wait.seconds == 0.5
    assert play(flow) == [BulkheadFull]  # the queue is full too

    first.close()
    assert wait.signal.is_set
    assert isinstance(second.send(True), Attempt)
    assert (compartment.in_flight, compartment.waiting) == (1, 0)
    second.close()


def test_who_waits_too_long_is_refused_and_leaves_the_queue():
    compartment, flow = bulkhead(limit=1, queue=1, wait=0.5)
    first = flow(Call(CALL))
    next(first)
    said = play(flow)
    assert isinstance(said[0], Wait)
    assert said[1:] == [BulkheadFull]
    assert compartment.waiting == 0
    first.close()


def test_a_place_that_comes_just_as_time_is_up_is_taken():
    _, flow = bulkhead(limit=1, queue=1)
    first, second = flow(Call(CALL)), flow(Call(CALL))
    next(first)
    next(second)
    first.close()
    assert isinstance(second.send(False), Attempt)
    second.close()


def test_who_gives_up_after_being_woken_hands_the_place_on():
    compartment, flow = bulkhead(limit=1, queue=2)
    first, second, third = (flow(Call(CALL)) for _ in range(3))
    next(first)
    next(second)
    wait = next(third)
    first.close()  # wakes the second
    second.close()  # which is gone before it ran
    assert wait.signal.is_set
    assert isinstance(third.send(True), Attempt)
    third.close()
    assert compartment.in_flight == 0


def test_the_limit_changes_while_calls_are_in_flight():
    compartment, flow = bulkhead(limit=1, queue=2)
    calls = [flow(Call(CALL)) for _ in range(3)]
    steps = [next(call) for call in calls]

    compartment.resize(Bulkhead(limit=2, queue=2))
    assert [getattr(step, "signal", None) and step.signal.is_set for step in steps] == [
        None,
        True,
        False,
    ]
    compartment.resize(Bulkhead(limit=1, queue=2))
    calls[0].close()
    assert compartment.in_flight == 1  # too many are in: nobody else comes in
    for call in calls:
        call.close()
    assert compartment.in_flight == compartment.waiting == 0


actions = some.lists(
    some.tuples(some.sampled_from(["enter", "go", "close", "resize"]), some.integers(0, 9)),
    max_size=60,
)


@given(limit=some.integers(1, 4), queue=some.integers(0, 4), history=actions)
def test_never_more_than_the_limit_and_never_a_lost_place(limit, queue, history):
    compartment, flow = bulkhead(limit=limit, queue=queue)
    alive, limits = [], [limit]
    for action, number in history:
        if action == "enter":
            steps = flow(Call(CALL))
            try:
                alive.append([steps, next(steps)])
            except BulkheadFull:
                assert compartment.in_flight >= limits[-1]
        elif action == "resize":
            limits.append(number + 1)
            compartment.resize(Bulkhead(limit=number + 1, queue=queue))
        elif alive:
            entry = alive[number % len(alive)]
            if action == "close":
                entry[0].close()
                alive.remove(entry)
            elif isinstance(entry[1], Wait):
                try:
                    entry[1] = entry[0].send(entry[1].signal.is_set)
                except BulkheadFull:
                    alive.remove(entry)
        assert compartment.in_flight <= max(limits)
        inside = sum(1 for _, step in alive if isinstance(step, Attempt) or step.signal.is_set)
        assert compartment.in_flight == inside
        if compartment.waiting:
            assert compartment.in_flight >= limits[-1]
    for steps, _ in alive:
        steps.close()
    assert compartment.in_flight == compartment.waiting == 0
