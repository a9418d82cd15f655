"""A registration kept alive: the table of the pure core, and the runner against a scripted desk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from random import Random

import pytest

from discovery import Check, DiscoveryError, Instance, connect
from discovery.agent import Agent
from discovery.lease import Keeping, Outcome, State, Step, Told, keep, period

STEPS = {
    "done": Outcome.DONE,
    "lost": Outcome.LOST,
    "taken": Outcome.TAKEN,
    "refused": Outcome.REFUSED,
    "down": Outcome.DOWN,
}


class Never(Random):
    """No jitter."""

    def random(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("outcomes", "steps"),
    [
        (["done", "done"], ["register 0", "confirm 2", "confirm 4"]),
        (["done", "lost", "done"], ["register 0", "confirm 2", "register 2", "confirm 4"]),
        (
            ["done", "down", "down", "lost", "done"],
            [
                "register 0",
                "confirm 2",
                "confirm 2.1",
                "confirm 2.3",
                "register 2.3",
                "confirm 4.3",
            ],
        ),
        (
            ["down", "down", "down", "done"],
            ["register 0", "register 0.1", "register 0.3", "register 0.7", "confirm 2.7"],
        ),
        (["refused", "done"], ["register 0", "register 0.1", "confirm 2.1"]),
        (["done", "taken", "taken"], ["register 0", "confirm 2", "confirm 4", "confirm 6"]),
        (["done", "taken", "lost"], ["register 0", "confirm 2", "confirm 4", "register 4"]),
        (["done", "taken", "done"], ["register 0", "confirm 2", "confirm 4", "confirm 6"]),
        (["lost", "lost"], ["register 0", "register 0.1", "register 0.3"]),
    ],
)
def test_a_registration_takes_these_steps(outcomes: list[str], steps: list[str]) -> None:
    keeping, said = Keeping(period=2.0), []
    for outcome in [*outcomes, None]:
        said.append(f"{keeping.step.value} {round(keeping.due, 6):g}")
        if outcome is not None:
            keeping.came_of_it(STEPS[outcome], keeping.due, Never())

    assert said == steps


def test_a_confirmation_comes_early_by_at_most_a_fifth() -> None:
    keeping, rng = Keeping(period=2.0), Random(1)
    for _ in range(100):
        before = keeping.due
        keeping.came_of_it(Outcome.DONE, before, rng)

        assert 1.6 <= keeping.due - before <= 2.0


def test_an_outcome_that_cannot_be_changes_nothing() -> None:
    keeping = Keeping()
    with pytest.raises(KeyError):
        keeping.came_of_it(Outcome.TAKEN, 1.0, Random(1))

    assert (keeping.state, keeping.step, keeping.due) == (State.ABSENT, Step.REGISTER, 0.0)


@pytest.mark.parametrize(
    ("check", "seconds"),
    [(None, 2.0), (Check(), 2.0), (Check("ttl", ttl=30.0), 2.0), (Check("ttl", ttl=3.0), 1.0)],
)
def test_a_heartbeat_comes_thrice_a_ttl_or_every_two_seconds(
    check: Check | None, seconds: float
) -> None:
    assert period(Instance("orders", "127.0.0.1", 1, check=check)) == seconds


class Desk:
    """Answers what it is told to, the last answer for ever, and writes down what it was asked."""

    def __init__(self, *script: str) -> None:
        self.asked: list[str] = []
        self.reached = asyncio.Condition()
        self._script: Iterator[str] = iter(script)
        self._last = ""

    async def register(self, _: Instance) -> Told:
        return await self._answer("register")

    async def confirm(self, _: Instance) -> Told:
        return await self._answer("confirm")

    async def deregister(self, _: Instance) -> Told:
        return await self._answer("deregister")

    async def unlisted(self, _: Instance, *, insist: bool) -> Told:
        return await self._answer("insist" if insist else "unlisted")

    async def _answer(self, verb: str) -> Told:
        self.asked.append(verb)
        self._last = next(self._script, self._last)
        async with self.reached:
            self.reached.notify_all()
        if self._last == "hangs":
            await asyncio.Event().wait()
        return Told(STEPS[self._last], "because")

    async def until(self, *asked: str) -> None:
        async with asyncio.timeout(5.0), self.reached:
            await self.reached.wait_for(lambda: self.asked[: len(asked)] == list(asked))


INSTANCE = Instance("orders", "127.0.0.1", 5001, check=Check("ttl", ttl=0.03))


async def test_the_runner_registers_confirms_and_leaves() -> None:
    desk = Desk("done")
    async with keep(INSTANCE, desk):
        await desk.until("register", "confirm", "confirm")

    assert desk.asked[-2:] == ["deregister", "unlisted"]
    assert desk.asked.count("deregister") == 1


async def test_leaving_takes_until_nobody_is_told_of_it() -> None:
    desk = Desk("done", "done", "done", "down", "down", "done")
    async with keep(INSTANCE, desk):
        await desk.until("register", "confirm")

    assert desk.asked == ["register", "confirm", "deregister", "unlisted", "unlisted", "unlisted"]


async def test_what_the_servers_still_list_is_taken_out_there(agent: Agent, consul: str) -> None:
    """As when an agent could not tell them, or died and came back under another name."""
    instance = Instance("lingers", "127.0.0.1", 5001, id='odd " id', check=None)
    listed = {"ID": instance.id, "Service": "lingers", "Address": "127.0.0.1", "Port": 5001}
    for address in (agent.address, consul):
        async with connect(f"consul://{address}") as registry, asyncio.timeout(10.0):
            client = registry.client  # type: ignore[attr-defined]
            for node, port in (("gone", 5001), ("elsewhere", 5002)):
                body = {"Node": node, "Address": "10.0.0.9", "Service": listed | {"Port": port}}
                await client.request("PUT", "/v1/catalog/register", body=json.dumps(body))
            async with registry.register(instance):
                pass
            answer = await client.request("GET", "/v1/health/service/lingers")
            for node in ("gone", "elsewhere"):
                body = {"Node": node}
                await client.request("PUT", "/v1/catalog/deregister", body=json.dumps(body))

        assert [entry["Service"]["Port"] for entry in json.loads(answer.body)] == [5002]


async def test_what_the_agent_forgot_is_registered_again() -> None:
    desk = Desk("done", "lost", "done")
    async with keep(INSTANCE, desk):
        await desk.until("register", "confirm", "register", "confirm")


async def test_a_refusal_is_an_error_that_says_why() -> None:
    with pytest.raises(DiscoveryError, match="was not registered: because"):
        async with keep(INSTANCE, Desk("refused")):
            pass


async def test_an_agent_that_comes_later_is_waited_for_in_the_background() -> None:
    desk = Desk("down", "down", "done")
    async with keep(INSTANCE, desk):
        await desk.until("register", "register", "register", "confirm")


async def test_leaving_ends_though_the_agent_is_gone() -> None:
    desk = Desk("done", "down")
    async with asyncio.timeout(2.0):
        async with keep(INSTANCE, desk, leave_seconds=0.2) as registration:
            await registration.leave()

    assert desk.asked.count("deregister") >= 2


async def test_leaving_ends_though_the_agent_hangs() -> None:
    desk = Desk("done", "hangs")
    async with asyncio.timeout(2.0):
        async with keep(INSTANCE, desk, step_seconds=0.1, leave_seconds=0.1):
            await desk.until("register", "confirm")


async def test_an_id_that_somebody_else_took_is_not_deregistered() -> None:
    desk = Desk("done", "taken")
    async with keep(INSTANCE, desk):
        await desk.until("register", "confirm", "confirm")

    assert "deregister" not in desk.asked
