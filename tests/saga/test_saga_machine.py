"""decide() is a table: a journal in, a command out."""

import re
from itertools import pairwise

import pytest

from mesh.saga import machine
from mesh.saga.machine import (
    TRANSITIONS,
    WHOLE,
    Do,
    Entry,
    SagaError,
    Stage,
    State,
    Undo,
    check,
    committed,
    decide,
    fold,
)

# reserve and charge can be undone, notify leaves nothing to undo, confirm decides, ship must be.
STAGES = [
    Stage("reserve"),
    Stage("charge"),
    Stage("notify", undo=False),
    Stage("confirm", "pivot", undo=False),
    Stage("ship", "retriable", undo=False),
]
PAID = "reserve:started reserve:done charge:started charge:done "
TOLD = PAID + "notify:started notify:done "
SURE = TOLD + "confirm:started confirm:done "


def journal(lines: str) -> list[Entry]:
    entries = []
    for line in lines.split():
        step, what = line.split(":")
        assert what in machine.What.__args__  # type: ignore[attr-defined]
        entries.append(Entry(step, what))  # type: ignore[arg-type]
    return entries


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        ("", Do("reserve")),
        ("reserve:started", Do("reserve")),
        ("reserve:started reserve:started", Do("reserve")),
        ("reserve:started reserve:done", Do("charge")),
        (PAID, Do("notify")),
        (TOLD, Do("confirm")),
        (TOLD + "confirm:started", Do("confirm")),
        (SURE, Do("ship")),
        (SURE + "ship:started", Do("ship")),
        (SURE + "ship:started ship:done", "completed"),
        # A refusal turns back; what was refused never happened.
        ("reserve:started reserve:refused", "compensated"),
        ("reserve:started reserve:done charge:started charge:refused", Undo("reserve")),
        (TOLD + "confirm:started confirm:refused", Undo("charge")),
        (PAID + "notify:started notify:refused", Undo("charge")),
        # So do a cancellation and the deadline; what was started may have happened.
        (":turned", "compensated"),
        ("reserve:started :turned", Undo("reserve")),
        ("reserve:started :turned reserve:undoing", Undo("reserve")),
        ("reserve:started :turned reserve:undoing reserve:undoing", Undo("reserve")),
        ("reserve:started :turned reserve:undoing reserve:undone", "compensated"),
        (PAID + ":turned", Undo("charge")),
        (PAID + ":turned charge:undoing charge:undone", Undo("reserve")),
        (PAID + "notify:started :turned", Undo("charge")),
        (TOLD + ":turned", Undo("charge")),
        (
            TOLD + ":turned charge:undoing charge:undone reserve:undoing reserve:undone",
            "compensated",
        ),
        # Once the pivot is started only its own refusal turns back; once it is done nothing does.
        (TOLD + "confirm:started :turned", Do("confirm")),
        (TOLD + "confirm:started :turned confirm:refused", Undo("charge")),
        (TOLD + "confirm:started :turned confirm:done", Do("ship")),
        (SURE + ":turned", Do("ship")),
        (SURE + "ship:started :turned ship:done", "completed"),
        # Lines of the whole saga decide nothing else.
        (":signalled reserve:started paid:signalled", Do("reserve")),
        (PAID + ":turned charge:undoing charge:parked :replayed", Undo("charge")),
    ],
)
def test_the_machine_decides(lines: str, command: object) -> None:
    assert decide(STAGES, journal(lines)) == command


@pytest.mark.parametrize(
    "lines",
    [
        "reserve:done",
        "reserve:refused",
        "reserve:undone",
        "reserve:undoing",
        "nowhere:started",
        "reserve:started reserve:done reserve:done",
        "reserve:started reserve:done reserve:started",
        "reserve:started reserve:refused reserve:done",
        "reserve:started reserve:refused reserve:undoing",
        "reserve:started reserve:undoing reserve:done",
        "reserve:started reserve:undoing reserve:undone reserve:started",
    ],
)
def test_a_line_that_cannot_stand_where_it_does_is_an_error(lines: str) -> None:
    with pytest.raises(SagaError, match="journal"):
        decide(STAGES, journal(lines))


def test_what_is_not_in_the_table_is_an_error_in_every_state() -> None:
    whats = {what for what in machine.What.__args__ if what not in WHOLE}  # type: ignore[attr-defined]
    path = {State.WAITING: ""}
    for _ in State:
        for (state, what), after in TRANSITIONS.items():
            if state in path:
                path.setdefault(after, f"{path[state]} reserve:{what}")
    assert set(path) == set(State)
    for state, lines in path.items():
        assert fold(STAGES, journal(lines))["reserve"] is state
        for what in whats - {known for at, known in TRANSITIONS if at is state}:
            with pytest.raises(SagaError):
                fold(STAGES, journal(f"{lines} reserve:{what}"))


def test_the_picture_names_every_state_and_line_of_the_table() -> None:
    picture = machine.__doc__ or ""
    words = set(re.findall(r"\b[A-Z]{4,}\b|\b[a-z]+\b", picture))
    assert {state.name for state in State} <= words
    assert {what for _, what in TRANSITIONS} <= words


@pytest.mark.parametrize(
    ("lines", "late"),
    [
        ("", False),
        (TOLD, False),
        (TOLD + "confirm:started", True),
        (TOLD + "confirm:started confirm:refused", False),
        (SURE, True),
    ],
)
def test_it_is_too_late_to_turn_from_the_start_of_the_pivot(lines: str, late: bool) -> None:
    assert committed(STAGES, journal(lines)) is late


def test_without_a_pivot_the_last_step_decides() -> None:
    stages = [Stage("a"), Stage("b")]
    assert not committed(stages, journal("a:started a:done b:started"))
    assert committed(stages, journal("a:started a:done b:started b:done"))
    assert decide(stages, journal("a:started a:done b:started b:done :turned")) == "completed"


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([], "at least one step"),
        ([Stage("")], "a name of its own"),
        ([Stage("a"), Stage("a")], "'a': every step needs a name of its own"),
        ([Stage("a", "nonsense")], "no kind 'nonsense'"),  # type: ignore[arg-type]
        ([Stage("a", "pivot")], "a pivot step is never undone"),
        ([Stage("a", "pivot", undo=False), Stage("b", "retriable")], "is never undone"),
        ([Stage("a", "pivot", undo=False), Stage("b", "pivot", undo=False)], "behind the pivot"),
        ([Stage("a", "pivot", undo=False), Stage("b")], "'b': behind the pivot every step"),
        ([Stage("a"), Stage("b", "retriable", undo=False)], "'b': a retriable step stands behind"),
    ],
)
def test_stages_that_make_no_saga_are_refused(stages: list[Stage], why: str) -> None:
    with pytest.raises(SagaError, match=why):
        check(stages)


def test_a_saga_that_only_goes_forward_asks_each_step_once_in_order() -> None:
    lines: list[Entry] = []
    asked = []
    while isinstance(command := decide(STAGES, lines), Do):
        asked.append(command.step)
        lines += [Entry(command.step, "started"), Entry(command.step, "done")]
    assert command == "completed"
    assert asked == [stage.name for stage in STAGES]
    assert all(a != b for a, b in pairwise(asked))
