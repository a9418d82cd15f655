"""A database of its own for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.store import Database, connect
from tests.server.commands import EFFECT
from tests.store.postgresql import DATABASES, new_url


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each sort in turn."""
    return new_url(request.param, tmp_path / "echo.db")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with connect(url) as opened:
        await opened.migrate("effects", [EFFECT])
        yield opened
