"""Fallbacks answer for want of a server, say so, and never answer one for another."""

import pytest

from mesh.call import Call, Idempotency, Kind, Method
from mesh.errors import BulkheadFull, CallFailed, Code, PolicyError
from mesh.flow import stack
from mesh.policy.fallback import Fallback, Larder, falling_back
from mesh.telemetry.events import FellBack
from mesh.testing import Clock, play

READ = Method("/shop.Products/List", idempotency=Idempotency.NO_SIDE_EFFECTS)
DOWN = CallFailed(Code.UNAVAILABLE)


def fallback(**fields):
    clock, heard = Clock(), []
    flow = stack(falling_back(Larder(Fallback(**fields)), clock, emit=heard.append))

    def ask(outcome, request="r", metadata=(), method=READ):
        call = Call(method, request, metadata)
        return play(flow, outcome, call=call)[-1], call.notes

    return ask, clock, heard


def test_a_value_stands_in_and_is_marked():
    ask, _, heard = fallback(value="nothing today")
    assert ask("fresh") == ("fresh", [])
    assert ask(DOWN) == ("nothing today", [("mesh-fallback", "value")])
    assert heard == [FellBack("/shop.Products/List", "value", "UNAVAILABLE")]


def test_a_value_may_be_made_from_the_request():
    ask, _, _ = fallback(value=lambda request: f"no {request}")
    assert ask(DOWN, "apples")[0] == "no apples"


def test_a_refusal_on_this_side_falls_back_too():
    def full(call, inner):
        raise BulkheadFull("full")
        yield

    flow = stack(falling_back(Larder(Fallback(value="v")), Clock()), full)
    assert play(flow, call=Call(READ)) == ["v"]


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED])
def test_an_answer_is_not_replaced_even_when_it_is_no(code):
    ask, _, _ = fallback(value="v", last_good=True)
    ask("fresh")
    assert ask(CallFailed(code))[0] is CallFailed


def test_the_last_good_answer_is_given_for_so_long():
    ask, clock, _ = fallback(last_good=True, seconds=60.0)
    ask("fresh")
    clock.advance(60.0)
    assert ask(DOWN) == ("fresh", [("mesh-fallback", "last-good")])
    clock.advance(0.1)
    assert ask(DOWN)[0] is CallFailed


def test_nobody_gets_what_was_answered_to_another():
    ask, _, _ = fallback(last_good=True)
    ask("alice's", metadata=(("authorization", "alice"),))
    assert ask(DOWN, metadata=(("authorization", "bob"),))[0] is CallFailed
    assert ask(DOWN, metadata=(("authorization", "alice"), ("x-request-id", "7")))[0] == "alice's"
    assert ask(DOWN, "another request", metadata=(("authorization", "alice"),))[0] is CallFailed


def test_what_changes_something_is_never_answered_from_memory():
    ask, _, _ = fallback(last_good=True)
    charge = Method("/shop.Payments/Charge", idempotency=Idempotency.IDEMPOTENT)
    ask("charged", method=charge)
    assert ask(DOWN, method=charge)[0] is CallFailed


def test_streams_pass_untouched():
    ask, _, _ = fallback(value="v")
    assert ask(DOWN, method=Method("/shop.Orders/Watch", Kind.UNARY_STREAM))[0] is CallFailed


def test_only_so_many_answers_are_kept():
    ask, _, _ = fallback(last_good=True, entries=2)
    for request in "abc":
        ask(request.upper(), request)
    assert [ask(DOWN, request)[0] for request in "abc"] == [CallFailed, "B", "C"]


def test_a_fallback_to_nothing_makes_no_sense():
    with pytest.raises(PolicyError, match=r"fallback.value: None leaves nothing to answer with"):
        Fallback()
