"""How often who may ask: rates, buckets, and their being one gateway's whatever its workers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import discovery
from discovery.agent import Agent
from gateway.guard import Guard
from gateway.keys import ApiKeys
from gateway.quota import SETS, SIZE, WAYS, Quota, address
from gateway.rates import Rate, Rates, RatesError
from gateway.together import Together
from mesh.errors import RateLimited
from mesh.policy.limit import Meter, RateLimit
from tests.gateway.scripted import Orders, running
from tests.gateway.test_gateway_guard import KEY, guarded
from tests.gateway.test_gateway_process import process
from tests.gateway.test_gateway_workers import LINUX, served


class Asking:
    """A quota at a time that the test sets."""

    def __init__(self, text: str, together: Together | None = None) -> None:
        self.now = 1000.0
        self.quota = Quota(Rates.parse(text), together, clock=lambda: self.now)

    def take(self, who: str) -> float:
        """How long `who` has to wait; 0 when it is let through."""
        try:
            self.quota.take(who)
        except RateLimited as error:
            return error.retry_after or 0.0
        return 0.0


# -- rates


@pytest.mark.parametrize(
    ("text", "per_second", "burst"),
    [
        ("10", 10, 10),
        ("10/s:30", 10, 30),
        ("0.5", 0.5, 1),
        ("600/min:20", 10, 20),
        ("90/h", 0.025, 90),
        ("86400/d:5", 1, 5),
    ],
)
def test_a_rate_is_read(text: str, per_second: float, burst: int) -> None:
    assert Rate.parse(text) == Rate(per_second, burst)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1/week", "1:0", "1:", "nan", "1e9", "1 2"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not RATE|lets nobody"):
        Rate.parse(text)


def test_the_line_that_names_somebody_decides_then_their_kind_then_everybody() -> None:
    rates = Rates.parse("# ours\nkey:acme 100\nkey:* 10\n* 5  # the rest\n")

    who = ("key:acme", "key:globex", "user:ada", "address:10.0.0.1")
    assert [rates.of(each) for each in who] == [
        *(Rate(100, 100), Rate(10, 10), Rate(5, 5), Rate(5, 5))
    ]
    assert Rates.parse("key:* 1").of("user:ada") is None
    assert Rates.parse("key:* 1", Rate(7, 7)).of("user:ada") == Rate(7, 7)
    assert Rates.parse("* 1", Rate(7, 7)).of("user:ada") == Rate(1, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key:acme", "line 1 is not a name and a rate"),
        ("\nacme 5", "line 2: 'acme' is not"),
        ("key: 5", "line 1: 'key:' is not"),
        ("* 5\n* 6", r"line 2: \* has a rate already"),
        ("* many", "line 1: 'many' is not RATE"),
    ],
)
def test_a_file_of_rates_that_is_wrong_is_refused_by_line(text: str, said: str) -> None:
    with pytest.raises(RatesError, match=said):
        Rates.parse(text)


# -- buckets


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    asking = Asking("* 2:3")
    assert [asking.take("key:a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
    asking.now += 0.5
    assert [asking.take("key:a") for _ in range(2)] == [0, pytest.approx(0.5)]
    asking.now += 100
    assert [asking.take("key:a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


def test_everybody_has_a_bucket_of_their_own_and_who_has_no_rate_needs_none() -> None:
    asking = Asking("key:* 1")

    assert [asking.take("key:a"), asking.take("key:b")] == [0, 0]
    assert asking.take("key:a") > 0
    assert [asking.take("user:ada") for _ in range(100)] == [0] * 100


def test_a_days_quota_may_be_asked_for_at_once_and_comes_back_over_the_day() -> None:
    asking = Asking("* 1000/d")

    assert [asking.take("key:a") for _ in range(1000)] == [0] * 1000
    assert asking.take("key:a") == pytest.approx(86.4)
    asking.now += 86.4 * 3
    assert [asking.take("key:a") for _ in range(4)] == [0, 0, 0, pytest.approx(86.4)]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc")), max_size=80),
    st.floats(0.1, 50),
    st.integers(1, 10),
)
def test_it_lets_through_what_the_meshs_own_token_bucket_does(
    asked: list[tuple[float, str]], rate: float, burst: int
) -> None:
    asking, meter = Asking("* 1"), Meter(RateLimit(rate=rate, burst=burst))
    asking.quota.rates.rates["*"] = Rate(rate, burst)
    for pause, who in asked:
        asking.now += pause
        wait, other = asking.take(f"key:{who}"), 0.0
        try:
            meter.take(who, asking.now)
        except RateLimited as error:
            other = error.retry_after or 0.0
        # A nanosecond apart they may round to either side.
        assert wait == pytest.approx(other, abs=1e-6)


def test_memory_is_bounded_and_whom_it_matters_to_remember_is_remembered() -> None:
    asking = Asking("* 1/min:5")
    for _ in range(5):
        asking.take("key:greedy")
    for number in range(SETS * WAYS * 2):
        asking.take(f"address:{number}")

    assert asking.take("key:greedy") > 0
    assert SIZE < 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("client", "name"),
    [
        ("10.0.0.1", "address:10.0.0.1"),
        ("2001:db8:1:2:3::4", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "address:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "address:fe80::/64"),
        ("::ffff:10.0.0.1", "address:10.0.0.1"),
        ("unknown", "address:unknown"),
    ],
)
def test_an_ipv6_client_is_its_network(client: str, name: str) -> None:
    assert address(client) == name


def test_processes_share_the_buckets_and_count_right_at_the_same_time(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from gateway.quota import Quota
from gateway.rates import Rates
from gateway.together import Together
from mesh.errors import RateLimited
quota = Quota(Rates.parse("* 1/d:1000"), Together(Path(sys.argv[1]), int(sys.argv[2]), 3))
taken = 0
for _ in range(2000):
    try:
        quota.take("key:acme")
        taken += 1
    except RateLimited:
        pass
print(taken)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(number)], stdout=subprocess.PIPE
        )
        for number in range(3)
    ]
    taken = [int(each.communicate(timeout=60)[0]) for each in running]

    assert sum(taken) == 1000


# -- at the gateway


async def test_each_kind_draws_by_its_own_rate_and_is_told_when_to_come_back(request: Any) -> None:
    keys = ApiKeys.parse(f"acme {KEY}\nglobex {KEY}2")
    quota = Quota(Rates.parse("key:acme 1/min:2\nkey:* 1/min\naddress:* 1/min:3"))
    async with guarded(request.node.nodeid, guard=Guard(keys, quota=quota)) as shop:

        async def ask(key: str) -> tuple[int, Any, Any]:
            return await shop.ask("GET", "/v1/orders/o", headers={"X-Api-Key": key})

        acme = [await ask(KEY) for _ in range(3)]
        globex = [(await ask(f"{KEY}2"))[0] for _ in range(2)]
        guessed = [(await ask("x" * 20))[0] for _ in range(4)]
        well, _, _ = await shop.ask("GET", "/healthz")

    assert [status for status, _, _ in acme] == [200, 200, 429]
    _, body, headers = acme[2]
    assert (body["code"], body["details"][0]["reason"]) == (8, "RATE_LIMITED")
    assert body["message"] == "too many requests: 1 a minute are allowed"
    assert 30 <= int(headers["retry-after"]) <= 60
    assert globex == [200, 429]
    # Who guesses keys is told 401 three times, then to stay away; no guess costs a customer.
    assert guessed == [401, 401, 401, 429]
    assert well == 200


@LINUX
async def test_workers_let_through_as_much_as_one_does(tmp_path: Path) -> None:
    rates = tmp_path / "rates"
    rates.write_text("address:* 100000/d:5000\n")
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", Orders()),
        process("--workers", "3", MESH_REGISTRY=agent.url, GATEWAY_RATES=str(rates)) as child,
    ):
        assert child.stdout is not None
        url = (await asyncio.wait_for(child.stdout.readline(), 60)).decode().split()[-1]
        await served(url)
        seen: Counter[int] = Counter()
        async with aiohttp.ClientSession() as http:

            async def ask() -> None:
                for _ in range(700):
                    async with http.get(f"{url}/v1/none") as response:
                        seen[response.status] += 1

            await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(9))), 100)
        child.terminate()
        await asyncio.wait_for(child.communicate(), 30)

    # 5000 and the few that came back meanwhile, less those that `served` has asked.
    assert seen.keys() == {404, 429}
    assert 4500 <= seen[404] <= 5200
