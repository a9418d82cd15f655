"""What is fast agrees with what is thorough: compiled readers with plans, a parser with another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import compiled
from gateway.codec import Codec
from gateway.contract import Contract
from gateway.invalid import Invalid
from gateway.jsontext import dumps, loads, loads_strictly
from tests.gateway.random_messages import CONTRACT, DESCRIPTOR, All, fill

CODEC = CONTRACT.codec
READ: Any = compiled.reader(DESCRIPTOR)
# What a value may be changed to: some of it right here or there, most of it not.
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.0, 1.5, 2**31, 2**40, -(2**63), 2**64, 1e300, "", " ", "0", "01"),
    *("-1", "1e2", "1.0", "9" * 18, "9" * 19, "٣", "RED", "MINUS", "77", "NaN", "Infinity", "true"),
    *("\ud800", "é", "a=", "_-", "2026-02-30T00:00:00Z", "2026-01-02T03:04:05.5+01:00", "1.5s"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-01-02T03:04:05.Z"),
    *("2026-W01-1T03:04:05Z", "0000-01-01T00:00:00Z", "2026-01-02t03:04:05z", [], {}, [None]),
    *([[]], {"a": None}, {"units": "1"}, {"@type": "x/y"}, [{}], [1, "1"], {"stringOne": "x"}),
)


def thorough(value: Any) -> Any:
    try:
        return CODEC.read_as_planned(DESCRIPTOR, value)
    except Invalid:
        return None


def agrees(value: Any) -> bool:
    """Whether the compiled reader took the value; then the plan must say the same."""
    try:
        fast = READ(value)
    except compiled.UNUSUAL:
        return False
    slow = thorough(value)
    assert slow is not None, f"the plan refuses {value!r}"
    assert fast.SerializeToString(deterministic=True) == slow.SerializeToString(deterministic=True)
    return True


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container inside `value`, with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(pairs):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


def test_a_compiled_reader_takes_nothing_that_the_plan_refuses_or_reads_otherwise() -> None:
    rng = random.Random(8)
    taken = 0
    for _ in range(1000):
        written = loads(dumps(CODEC.write(fill(rng, All()))))
        value = {name: item for name, item in written.items() if agrees({name: item})}
        taken += agrees(value)
        spots = list(places(value))
        if not spots:
            continue
        holder, key = rng.choice(spots)
        if rng.random() < 0.1 and isinstance(holder, dict):
            holder[rng.choice(["string_one", "nonsense", "right", "left", "self"])] = holder.pop(
                key
            )
        else:
            holder[key] = rng.choice(STRANGE)
        taken += agrees(value)

    assert taken > 1000


@pytest.mark.parametrize("field", [field.json_name for field in DESCRIPTOR.fields])
def test_every_field_alone_with_every_strange_value(field: str) -> None:
    for value in STRANGE:
        agrees({field: value})


def test_what_clients_of_the_shop_send_is_not_unusual(contract: Contract) -> None:
    read: Any = compiled.reader(contract.pool.FindMessageTypeByName("shop.orders.v1.Order"))

    order = read(
        {
            "orderId": "o-1",
            "items": [{"productId": "p", "quantity": 2, "unitPrice": {"units": "12", "nanos": 5}}],
            "status": "ORDER_STATUS_PAID",
            "createTime": "2026-01-02T03:04:05.678Z",
        }
    )

    assert (order.items[0].unit_price.units, order.create_time.nanos) == (12, 678_000_000)


def test_two_contracts_do_not_share_what_was_compiled(contract: Contract) -> None:
    other = Contract(contract.files.values(), ["shop.orders.v1.OrderService"])
    name = "shop.orders.v1.Order"
    messages = [
        Codec(each.pool).read(each.pool.FindMessageTypeByName(name), {"orderId": "o-1"})
        for each in (contract, other)
    ]

    assert messages[0].DESCRIPTOR is not messages[1].DESCRIPTOR


# -- JSON text

PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b"\\",
        b'"a"',
        b'"b"',
        b"1",
        b"-",
        b"0",
        b".",
        b"e",
    ),
    *(b"+", b" ", b"\n", b"true", b"null", b"\\u", b"d800", b"00e9", b"\xff", b"\xc3\xa9", b'":'),
    *(b"9" * 20, b'{"a":1,"a":2}', b'{"a" :1', b'"\\":"', b"1e400", b"\xef\xbb\xbf"),
]


def said(parse: Any, text: bytes) -> str:
    try:
        return repr(parse(text))
    except Invalid as error:
        return f"{error.reason} {error}"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a" :1,"a":2}',
        b'{"a"\n:1,"b":{"a":2,"a":2}}',
        b'{"a":"\\":","b":1}',
        b'{"t":"10:30","a":1,"a":1}',
        b'{"\\":":1,"a":1,"a":1}',
        b"-0",
        b"1e400",
        b"1" * 40,
        b"1" * 5000,
        b'"\\ud800"',
        b"[" * 5000 + b"]" * 5000,
        b'{"a":1}x',
    ],
)
def test_the_fast_parser_says_what_the_strict_one_says(text: bytes) -> None:
    assert said(loads, text) == said(loads_strictly, text)


def test_it_does_so_for_any_text() -> None:
    rng = random.Random(9)
    whole = 0
    for _ in range(30_000):
        text = b"".join(rng.choice(PIECES) for _ in range(rng.randint(1, 9)))
        answer = said(loads, text)
        assert answer == said(loads_strictly, text), text
        whole += not answer.startswith("INVALID")

    assert whole > 1000
