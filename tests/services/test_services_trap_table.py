"""Every trap that toy implementations of durable data fall into, and what shows it here."""

from __future__ import annotations

import pytest

from tests.flow.test_flow_trap_table import every_test

# The trap's number; what holds instead; the tests that show it.
TABLE = """
51 an answer is stored in the transaction that made it true
    test_what_was_kept_with_the_effect_is_answered_though_the_handler_failed
    test_nothing_is_written_before_the_effect
52 a key is its caller's, and its fingerprint is of canonical bytes
    test_a_key_belongs_to_its_caller
    test_a_key_makes_one_order_for_each_customer
    test_the_fingerprint_is_of_what_is_asked
53 what is only so for now is not answered again
    test_only_errors_that_stay_true_are_answered_again
    test_only_a_refusal_that_stays_true_is_stored
54 a relay misses no late commit, and one relays
    test_who_is_past_a_position_has_missed_none_before_it
    test_one_of_many_relays_at_a_time
    test_a_relay_goes_on_where_the_one_before_it_stopped
55 an inbox remembers for longer than anybody redelivers
    test_an_inbox_remembers_longer_than_an_outbox_can_repeat
56 a poison event holds up its own aggregate
    test_a_poison_event_holds_its_own_aggregate_only
57 what comes after its compensation is refused
    test_a_reservation_that_comes_after_its_release_holds_nothing
    test_a_charge_that_comes_after_its_refund_moves_no_money
    test_commands_that_come_ten_times_in_any_order_move_money_and_stock_once
58 a saga is run by one
    test_runners_share_a_database_and_each_saga_is_run_by_one
    test_a_runner_that_loses_its_lease_stops_and_writes_nothing
    test_a_runner_that_slept_through_its_lease_writes_nothing
59 money is whole numbers
    test_money_is_added_and_multiplied_in_whole_numbers
60 SQLite: nobody starves, nothing is done on the event loop, a kept lock is said
    test_nobody_waits_over_a_second_beside_a_saturated_writer
    test_a_work_may_await_nothing_but_its_tx
    test_a_foreign_program_that_keeps_the_lock_makes_it_busy
    test_many_databases_may_open_a_new_one_at_once
61 a saga goes on by the definition that it began with
    test_a_saga_is_run_only_by_who_knows_its_steps
    test_a_recorded_journal_is_read_as_it_was_written
    test_a_journal_from_when_the_step_had_a_call_goes_on
    test_the_saga_of_the_shop_is_one_that_was_recorded
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


def test_no_trap_is_forgotten() -> None:
    assert list(traps()) == list(range(51, 62))
    assert all(traps().values())


@pytest.mark.parametrize("trap", traps())
def test_what_shows_a_trap_exists(trap: int) -> None:
    assert set(traps()[trap]) - every_test() == set()
