"""Every trap that toy implementations of calls and grpcio fall into, and what shows it here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

# The trap's number; what holds instead; the tests that show it.
TABLE = """
1 one layer retries, not every layer above every other
    test_a_keyed_call_is_repeated_and_says_how_often
    test_every_layer_is_there_when_it_has_a_rule_and_only_then
    test_retries_alone_add_two_tenths_at_most_over_three_hops
2 grpc's own retries stay off under ours
    test_grpcs_own_retries_do_not_multiply_ours
3 DEADLINE_EXCEEDED of the whole call is never retried
    test_a_deadline_of_the_call_is_never_retried
    test_an_attempts_timeout_is_retried_the_calls_never
4 what may not run twice is not repeated without a key
    test_what_may_not_run_twice_is_repeated_only_when_it_did_not_run
    test_a_call_that_may_have_side_effects_is_not_repeated
5 jitter goes both ways
    test_jitter_goes_both_ways_by_a_fifth
6 the budget is the target's
    test_the_budget_is_the_targets_and_not_the_calls
7 the breaker is inside the retry, and an open one is not asked again at once
    test_the_breaker_sees_every_attempt_and_the_retry_every_other_endpoint
    test_a_breaker_inside_a_retry_ends_it
8 losers of a hedge are cancelled and are no failures
    test_losers_are_no_failures_to_a_breaker
    test_a_closed_call_closes_all_its_attempts
    test_the_second_of_two_hedges_answers_for_a_hung_first
9 nothing in flight is leaked by a cancellation
    test_nothing_taken_is_ever_lost
10 the scope of a breaker is one channel of one process
    test_a_circuit_is_one_channels_of_one_process_and_of_all_its_calls
11 a caller in a hurry trips no breaker
    test_a_caller_in_a_hurry_does_not_trip_the_breaker_for_all
12 metadata are pairs: order, duplicates and bytes stay
    test_metadata_keeps_order_and_duplicates_both_ways
13 no field of a call's details is lost
    test_an_interceptor_hands_on_every_field_of_a_call
    test_a_blocking_interceptor_hands_on_every_field_of_a_call
    test_a_call_carries_its_own_credentials
14 no deadline is None, and never 9.2e18 s
    test_a_blocking_handler_without_deadline_is_told_none_and_not_three_centuries
    test_the_endless_timeout_of_a_blocking_server_is_no_deadline
15 a stream holds no thread
    test_quiet_streams_hold_no_thread_of_a_blocking_servicer
16 code() can be awaited in an interceptor, and a stream stays a call
    test_the_code_can_be_awaited_in_an_interceptor_on_either_side_of_ours
    test_an_intercepted_stream_is_still_a_call
17 channels do not share connections
    test_each_channel_has_a_connection_of_its_own
18 a channel from before a fork says so
    test_a_channel_from_before_a_fork_says_so_instead_of_hanging
19 what a policy does not know is named, not silence
    test_what_is_wrong_is_named_by_path_and_value
20 endpoints change under a channel, and who leaves is drained
    test_an_endpoint_that_leaves_finishes_its_calls
21 no text of an exception leaves the process
    test_what_a_handler_raises_arrives_as_a_rich_status
22 a handler may fail after it has replied
    test_who_fails_after_replying_has_replied_and_failed
    test_a_handler_that_fails_when_its_caller_has_gone_disturbs_nobody
"""


def traps() -> dict[int, list[str]]:
    """The names of the tests by trap."""
    found: dict[int, list[str]] = {}
    for line in TABLE.strip().splitlines():
        if line.startswith(" "):
            found[max(found)].append(line.strip())
        else:
            found[int(line.split()[0])] = []
    return found


@cache
def every_test() -> frozenset[str]:
    """The name of every test there is."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name
        for file in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, kinds)
    )


def test_no_trap_is_forgotten() -> None:
    """1 to 13 are traps of calls, 14 to 22 of grpcio."""
    assert list(traps()) == list(range(1, 23))
    assert all(traps().values())


@pytest.mark.parametrize("trap", traps())
def test_what_shows_a_trap_exists(trap: int) -> None:
    assert set(traps()[trap]) - every_test() == set()
