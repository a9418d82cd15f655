"""A total outage: retries add next to nothing to it, and all is well again soon after."""

from __future__ import annotations

import pytest

from scripts.trials.outage import Outage, one_hop, three_hops
from scripts.trials.panel import Mood

ONE_HOP, THREE_HOPS = 1.10, 1.21
SOON = 5.0


def holds(found: Outage, most: float) -> None:
    assert found.calls > 100, found
    assert found.amplification <= most, found
    assert found.recovered is not None, found
    assert found.recovered <= SOON, found


async def test_retries_alone_add_a_tenth_at_most_at_one_hop() -> None:
    holds(await one_hop("retries", seconds=2.0), ONE_HOP)


async def test_retries_alone_add_two_tenths_at_most_over_three_hops() -> None:
    holds(await three_hops("retries", seconds=2.0), THREE_HOPS)


@pytest.mark.slow
@pytest.mark.parametrize("mood", [Mood.REFUSE, Mood.HANG])
async def test_in_production_an_outage_is_over_soon_after_it_ends(mood: Mood) -> None:
    holds(await one_hop("production", mood, seconds=8.0), ONE_HOP)


@pytest.mark.slow
@pytest.mark.parametrize("mood", [Mood.REFUSE, Mood.HANG])
async def test_so_it_is_through_the_gateway_and_orders(mood: Mood) -> None:
    holds(await three_hops("production", mood, seconds=8.0), THREE_HOPS)


@pytest.mark.slow
async def test_without_a_budget_it_would_be_three_times_the_load() -> None:
    """What grpcio's own retries do as its documentation configures them: the measure works."""
    found = await one_hop("tuned", seconds=4.0)

    assert found.amplification > 2.0, found
