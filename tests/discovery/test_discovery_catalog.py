"""The agent's catalog by itself: indexes, what goes with what, and its bound."""

from __future__ import annotations

import pytest

from discovery.agent import catalog as catalog_module
from discovery.agent.catalog import Catalog
from discovery.agent.go import Refused
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord


def test_a_service_has_an_index_of_its_own_and_leaves_one_behind() -> None:
    catalog = Catalog()
    catalog.put_node(NodeRecord("vm", "127.0.0.1"))
    never = catalog.service_index("orders", checks=True)
    catalog.put_service(ServiceRecord("vm", "o1", "orders"))
    registered = catalog.service_index("orders", checks=True)
    catalog.put_service(ServiceRecord("vm", "p1", "payments"))
    unmoved = catalog.service_index("orders", checks=True)
    catalog.put_check(CheckRecord("vm", "c", "c", service_id="o1", service_name="orders"))
    checked = catalog.service_index("orders", checks=True)
    catalog.put_check(CheckRecord("vm", "node", "of the node"))
    shaken = catalog.service_index("orders", checks=True)
    catalog.remove_service("vm", "o1")
    gone = catalog.service_index("orders", checks=True)

    assert [never, registered, unmoved, checked, shaken, gone] == [1, 2, 2, 4, 5, 6]


def test_a_removed_service_takes_its_checks_with_it() -> None:
    catalog = Catalog()
    catalog.put_service(ServiceRecord("vm", "o1", "orders"))
    catalog.put_check(CheckRecord("vm", "c", "c", service_id="o1", service_name="orders"))
    catalog.remove_service("vm", "o1")

    assert (catalog.services, catalog.checks, catalog.instances("orders")) == ({}, {}, [])


def test_the_catalog_has_a_bound_and_what_leaves_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog_module, "MAX_BYTES", 20_000)
    catalog = Catalog()
    catalog.put_node(NodeRecord("vm", "127.0.0.1"))

    def fill() -> None:
        for number in range(100):
            name = f"o{number}"
            catalog.put_service(ServiceRecord("vm", name, "orders", tags=["x" * 100]))
            catalog.put_check(CheckRecord("vm", name, name, service_id=name))

    with pytest.raises(Refused, match="has room for 20000 bytes"):
        fill()
    registered = len(catalog.checks)
    for number in range(registered):
        catalog.put_check(CheckRecord("vm", f"o{number}", "n", "passing", service_id=f"o{number}"))
    catalog.remove_service("vm", "o0")
    catalog.put_service(ServiceRecord("vm", "last", "orders", tags=["x" * 100]))

    assert 5 < registered < 20
    catalog.remove_node("vm")
    assert catalog._bytes == 0
