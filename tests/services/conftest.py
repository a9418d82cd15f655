"""A shop for a test, closed or open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import discovery
from scripts import parts
from tests.services.shopping import Open, Shop, opened


@pytest.fixture
def sort() -> str:
    """Which sort of database the shop has; a module may try several."""
    return "sqlite"


@pytest.fixture
async def closed_shop(tmp_path, sort) -> AsyncIterator[Shop]:
    """A shop of which nothing runs yet."""
    async with discovery.connect(f"memory://{uuid4()}") as registry:
        yield Shop(tmp_path, registry, sort=sort)


@pytest.fixture
async def shop(closed_shop) -> AsyncIterator[Open]:
    """A shop with one instance of each service."""
    async with opened(closed_shop) as shop:
        yield shop


@pytest.fixture
async def guarded(closed_shop, tmp_path) -> AsyncIterator[Any]:
    """A shop that asks who calls."""
    guarding = pytest.importorskip("tests.services.guarding", reason="needs the extra auth")
    async with guarding.guarding(closed_shop, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def strace() -> Path:
    """The program, which is fetched where it is missing."""
    try:
        return parts.ensure("strace")
    except parts.Unavailable as why:
        pytest.skip(f"strace: {why}")
