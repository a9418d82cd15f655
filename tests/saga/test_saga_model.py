"""
Whatever is lost, repeated, late or killed: a saga ends, and all of it happened or nothing did.

Hypothesis is the fate of runners and messages.  Runners are real (course and journal, on a real
SQLite), the world keeps the promises that steps are asked for: a request is done once, and what was
undone by name is refused when it arrives later.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.saga import Context, Saga, Step, journal
from mesh.saga.course import Ask, Done, Lost, No, Outcome, Terms, advance, begin, turn
from mesh.saga.journal import Lease, LeaseLost
from mesh.saga.machine import Do, fold
from mesh.store import Transaction
from mesh.store.migrate import migrations, statements
from mesh.store.statement import SqliteTransaction

T = TypeVar("T")
LEASE = 10.0


async def never(context: Context) -> None:
    raise AssertionError("calls are made by the world")


@dataclass
class World:
    """The other services: what has happened there, and what is still under way to them."""

    refuses: frozenset[str]
    done: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    effects: list[str] = field(default_factory=list)
    answers: dict[str, Outcome] = field(default_factory=dict)
    under_way: list[Ask] = field(default_factory=list)

    def take(self, ask: Ask) -> Outcome:
        """A request arrives: it is done once, and answered the same each time."""
        key = ask.context.request_id
        if key not in self.answers:
            self.answers[key] = self._do(ask.command.step, forward=isinstance(ask.command, Do))
        return self.answers[key]

    def _do(self, step: str, *, forward: bool) -> Outcome:
        if not forward:
            self.undone.add(step)
            self.done.discard(step)
            return Done()
        if step in self.undone:
            return No("undone before it came")
        if step in self.refuses:
            return No("no")
        self.done.add(step)
        self.effects.append(step)
        return Done({"step": step})


class Rig:
    """One saga on one database, and every runner that ever had to do with it."""

    def __init__(
        self, saga: Saga, world: World, connection: sqlite3.Connection, owner: str
    ) -> None:
        self.saga, self.world, self.connection = saga, world, connection
        self.now = 0.0
        self.zombies: list[Runner] = []
        for statement in statements("".join(migrations("mesh.saga"))):
            connection.execute(statement)
        lease = Lease("o-1", saga.definition, owner, 1)
        until = LEASE if owner else 0.0
        begun = self.commit(lambda tx: begin(tx, saga, lease, {}, 0.0, until))
        assert begun
        assert bool(begun.ask) == bool(owner)
        # Who began it and has announced its first call, until it is seen what becomes of it.
        self.first = Runner(self, lease, begun.ask) if owner else None

    def commit(self, work: Callable[[Transaction], Awaitable[T]], *, crash: bool = False) -> T:
        self.connection.execute("begin immediate")
        coroutine: Any = work(SqliteTransaction("memory", self.connection))
        try:
            coroutine.send(None)
        except StopIteration as done:
            self.connection.execute("rollback" if crash else "commit")
            return done.value  # type: ignore[no-any-return]
        except BaseException:
            self.connection.execute("rollback")
            raise
        raise AssertionError("a work suspended")

    def state(self) -> str:
        instance = self.commit(lambda tx: journal.find(tx, "o-1"))
        assert instance is not None
        fold(self.saga.stages, instance.entries)
        return instance.state

    def take(self) -> "Runner | None":
        first, self.first = self.first, None
        if first and self.now < LEASE:
            return first
        leases = self.commit(
            lambda tx: journal.take(
                tx, "same name", [self.saga.definition], 1, self.now, self.now + LEASE
            )
        )
        return Runner(self, leases[0]) if leases else None


@dataclass
class Runner:
    rig: Rig
    lease: Lease
    ask: Ask | None = None

    def advance(self, outcome: Outcome | None, *, crash: bool = False) -> bool:
        """One transaction; answers whether there is another call to make."""
        terms = Terms(self.rig.now, self.rig.now + LEASE, lambda attempts: 1.0)
        asked = self.ask
        self.ask = self.rig.commit(
            lambda tx: advance(tx, self.rig.saga, self.lease, terms, asked, outcome), crash=crash
        )
        return self.ask is not None and not crash


# What may befall a call, or the world between two calls.
FATES = (
    "answered",
    "request lost",
    "reply lost",
    "late",  # arrives at any later time
    "dies before the call",
    "dies after the call",
    "dies writing",
    "stalls",  # its lease ends; it comes back later
    "cancelled",
    "time passes",
    "zombie acts",
    "late arrives",
)

SAGAS = {
    "pivot": lambda deadline: Saga(
        "place",
        Step("reserve", never, undo=never),
        Step("charge", never, undo=never),
        Step("notify", never),
        Step("confirm", never, kind="pivot"),
        Step("ship", never, kind="retriable"),
        deadline=deadline,
    ),
    "no pivot": lambda deadline: Saga(
        "place",
        Step("reserve", never, undo=never),
        Step("charge", never, undo=never),
        deadline=deadline,
    ),
}


def live(rig: Rig, fates: Iterator[str]) -> None:
    """Runners come and go until the fates have no more to say."""
    world = rig.world
    for fate in fates:
        if fate == "cancelled":
            rig.commit(cancel(rig))
        elif fate == "time passes":
            rig.now += 7.0
        elif fate == "zombie acts" and rig.zombies:
            act(rig.zombies.pop(0))
        elif fate == "late arrives" and world.under_way:
            world.take(world.under_way.pop(0))
        elif runner := rig.take():
            serve(rig, runner, fate, fates)
        else:
            rig.now += 1.0


def serve(rig: Rig, runner: Runner, fate: str, fates: Iterator[str]) -> None:
    if not runner.ask and not runner.advance(None):
        return
    while runner.ask:
        ask, world = runner.ask, rig.world
        if fate == "dies before the call":
            return
        if fate == "stalls":
            rig.zombies.append(runner)
            rig.now += LEASE + 1
            return
        if fate == "late":
            world.under_way.append(ask)
            outcome: Outcome = Lost("late")
        elif fate == "request lost":
            outcome = Lost("request lost")
        else:
            outcome = world.take(ask)
        if fate == "dies after the call":
            return
        if fate == "reply lost":
            outcome = Lost("reply lost")
        if fate == "cancelled":
            rig.commit(cancel(rig))
        if fate == "time passes":
            rig.now += 7.0
        if not runner.advance(outcome, crash=fate == "dies writing"):
            return
        fate = next(fates, "answered")


def act(zombie: Runner) -> None:
    """A runner that lost its lease makes its call all the same, and tries to write the outcome."""
    if zombie.ask:
        outcome = zombie.rig.world.take(zombie.ask)
        before = zombie.rig.commit(lambda tx: journal.find(tx, "o-1"))
        try:
            zombie.advance(outcome)
        except LeaseLost:
            assert zombie.rig.commit(lambda tx: journal.find(tx, "o-1")) == before


def cancel(rig: Rig) -> Callable[[Transaction], Awaitable[bool]]:
    async def work(tx: Transaction) -> bool:
        instance = await journal.find(tx, "o-1")
        assert instance is not None
        return turn(tx, rig.saga, instance, "CANCELLED", rig.now)

    return work


def finish(rig: Rig) -> None:
    """No more faults: it must come to an end, and soon."""
    for _ in range(60):
        if rig.state() in ("completed", "compensated"):
            return
        rig.now += LEASE + 1
        if runner := rig.take():
            outcome: Outcome | None = None
            while runner.advance(outcome):
                assert runner.ask
                outcome = rig.world.take(runner.ask)
    raise AssertionError("the saga never ended")


def tell(
    saga: Saga, refuses: frozenset[str], fates: Iterator[str], owner: str = "same name"
) -> None:
    """Live through `fates`, come to an end, and see that all of it happened or nothing."""
    world = World(refuses)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        rig = Rig(saga, world, connection, owner)
        live(rig, fates)
        finish(rig)
        state, happened = rig.state(), set(world.done)
        while world.under_way:  # what was late arrives after all
            world.take(world.under_way.pop(0))
        while rig.zombies:
            with suppress(LeaseLost):
                act(rig.zombies.pop(0))

    undoable = {stage.name for stage in saga.stages if stage.undo}
    assert len(world.effects) == len(set(world.effects)), "each effect once"
    if state == "completed":
        assert world.done == happened == set(saga.steps)
        assert not world.refuses
    else:
        assert not (happened | world.done) & (undoable | {"confirm", "ship"})


@pytest.mark.parametrize("shape", SAGAS)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_all_of_it_happens_or_nothing(shape: str, data: st.DataObject) -> None:
    saga = SAGAS[shape](data.draw(st.sampled_from([None, 20.0, 100.0])))
    refusable = [stage.name for stage in saga.stages if stage.kind != "retriable"]
    refuses = frozenset(data.draw(st.sets(st.sampled_from(refusable), max_size=1)))
    fates = data.draw(st.lists(st.sampled_from((*FATES, *["answered"] * 12)), max_size=40))
    tell(saga, refuses, iter(fates), data.draw(st.sampled_from(["", "same name"])))


@pytest.mark.parametrize("answered", range(10))
@pytest.mark.parametrize("refuses", ["", "confirm"])
def test_two_faults_at_every_point(answered: int, refuses: str) -> None:
    for first, second in product(FATES, FATES):
        fates = ["answered"] * answered + [first, second]
        tell(SAGAS["pivot"](None), frozenset({refuses} - {""}), iter(fates))


@pytest.mark.parametrize("progress", range(9))
def test_a_runner_that_slept_through_its_lease_writes_nothing(progress: int) -> None:
    fates = ["answered", "stalls", *["answered"] * progress, "dies before the call", "zombie acts"]
    tell(SAGAS["pivot"](None), frozenset(), iter(fates))
