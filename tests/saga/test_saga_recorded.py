"""Journals that were written by released definitions are still read as they were meant."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mesh.saga.machine import WHOLE, Do, Entry, Stage, Undo, check, decide
from services.orders.place_order import place_order

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
CASES = [
    (json.loads(path.read_text()), name)
    for path in RECORDED
    for name in json.loads(path.read_text())["journals"]
]


@pytest.mark.parametrize(("file", "name"), CASES, ids=[name for _, name in CASES])
def test_a_recorded_journal_is_read_as_it_was_written(file: dict[str, Any], name: str) -> None:
    """From each of its lines on, the machine asks for what the next lines tell of."""
    stages = [Stage(step, kind, undo) for step, kind, undo in file["stages"]]
    check(stages)
    lines, _, end = file["journals"][name].partition(" = ")
    journal = [Entry(*line.split(":")) for line in lines.split()]
    for index, (before, entry) in enumerate(pairwise([None, *journal])):
        assert entry
        command = decide(stages, journal[:index])
        match entry.what:
            case "started" | "done" | "refused":
                # A call that was under way when the saga was turned may still be answered.
                turned = before is not None and before.what == "turned"
                assert command == Do(entry.step) or turned
            case "undoing" | "undone" | "parked":
                assert command == Undo(entry.step)
            case what:
                assert what in WHOLE
    assert decide(stages, journal) == end


def test_the_saga_of_the_shop_is_one_that_was_recorded() -> None:
    """Whoever changes its steps gives it another version, and records what that one writes."""
    nothing: Any = None
    recorded = {json.loads(path.read_text())["definition"] for path in RECORDED}
    assert place_order(nothing, nothing, nothing, nothing).definition in recorded
