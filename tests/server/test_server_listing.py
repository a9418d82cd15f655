"""What a server is registered with: by itself, and as a real agent has it."""

from __future__ import annotations

import socket

import pytest

from discovery import Check, connect
from discovery.agent import Agent
from mesh.server import Server
from mesh.server.listing import Listing
from tests.server.echo import Echo


def test_a_slot_makes_an_id_that_the_next_life_has_too() -> None:
    made = Listing(instance=2, tags=("v2",)).instance_of("orders", ("shop.Orders",), "10.0.0.1", 5)

    assert made.id == f"orders-{socket.gethostname()}-2"
    assert made.tags == ("v2", "grpc")
    assert made.meta == {"grpc_services": "shop.Orders"}


@pytest.mark.parametrize("weight", [0, -1, 65536])
def test_a_weight_that_cannot_be_is_named(weight: int) -> None:
    with pytest.raises(ValueError, match=f"weight: {weight} is not between 1 and 65535"):
        Listing(weight=weight).instance_of("orders", (), "10.0.0.1", 5)


async def test_a_server_may_be_checked_by_what_it_says_of_itself() -> None:
    async with Agent.serving() as agent, connect(agent.url) as registry:
        server = Server("echo", [Echo()], registry=registry)
        async with server.serving(check=Check("ttl", ttl=30.0), weight=7):
            (record,) = [one for one in agent.local.services() if one.name == "echo"]
            (check,) = agent.local.checks_of(record.id)

            assert (record.passing_weight, check.kind, check.status) == (7, "ttl", "passing")
        assert agent.local.services() == []
