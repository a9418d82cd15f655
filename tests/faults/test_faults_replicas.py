"""Replicas that hang, die, restart or pause under load, plain grpcio beside the mesh."""

from __future__ import annotations

import pytest

from scripts.trials import network, servers
from scripts.trials.stage import RATE, REPLICAS, Stage

# What the promise allows to reach a hung replica before it is left out.
FEW = 5
# Seconds without any answer, at 150 calls a second, that only the host explains.
STALL = 0.05
SHARE = 0.002


def unharmed(stage: Stage) -> None:
    """The mesh failed no call, however many plain grpcio did."""
    assert stage.mesh.figures.failed == 0, (stage.mesh.figures, stage.notes)


async def test_a_replica_that_hangs_costs_no_call_and_returns_by_itself() -> None:
    async with servers.hung(5.0) as stage:
        pass
    mesh, plain = stage.mesh.figures, stage.loads["plain"].figures

    assert mesh.failed <= SHARE * mesh.sent, (mesh, stage.notes)
    assert int(stage.notes["reached"]) <= most(stage), stage.notes
    assert stage.notes["back after"] != "never"
    assert plain.failed > mesh.failed, plain


def most(stage: Stage) -> int:
    """FEW, and a replica's share of the calls that a host with no time for us made wait."""
    stall = stage.stall(*stage.hung)
    return FEW + (int(stall * RATE / REPLICAS) if stall > STALL else 0)


async def test_replicas_killed_in_turn_cost_no_call() -> None:
    async with servers.killed(500, turns=2) as stage:
        pass
    unharmed(stage)


@pytest.mark.slow
async def test_replicas_that_all_pause_at_once_cost_no_call() -> None:
    """A breaker that counts in a row takes a pause for an outage, and makes one of it."""
    async with servers.stalled(0.6, pauses=2) as stage:
        pass
    unharmed(stage)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("trial", [servers.killed, servers.rolled])
async def test_ten_thousand_calls_none_fails(trial) -> None:
    async with trial(10_000) as stage:
        pass
    assert stage.mesh.sent >= 10_000
    unharmed(stage)


@pytest.mark.slow
async def test_a_rolling_restart_fails_none_of_the_calls_that_may_not_be_repeated() -> None:
    async with servers.rolled(2_000, writes=True) as stage:
        pass
    assert stage.mesh.sent >= 2_000
    unharmed(stage)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trial", [network.blackholed, network.reset, network.slowed, network.lossy]
)
async def test_a_bad_network_costs_no_call(trial) -> None:
    async with trial(5.0) as stage:
        pass
    mesh, plain = stage.mesh.figures, stage.loads["plain"].figures

    assert mesh.failed <= SHARE * mesh.sent, (mesh, plain)
    assert mesh.failed <= plain.failed


@pytest.mark.slow
async def test_a_replica_that_hangs_costs_few_of_the_calls_that_may_not_be_repeated() -> None:
    """
    Nobody knows whether a server that hangs has done the work: who reached it is lost.

    Its silence sends others elsewhere before the first timeout, and back from its ejection it is
    not tried with what may be done only once until all else has had time to.
    """
    async with servers.hung(10.0, writes=True) as stage:
        pass
    mesh, plain = stage.mesh.figures, stage.loads["plain"].figures

    assert int(stage.notes["reached"]) <= most(stage), stage.notes
    assert mesh.failed <= SHARE * mesh.sent + most(stage) - FEW, (mesh, stage.notes)
    assert stage.notes["back after"] != "never"
    assert mesh.failed * 10 < plain.failed, (mesh, plain)
