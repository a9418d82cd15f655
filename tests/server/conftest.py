"""A database of its own for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.store import Database, connect


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with connect(f"sqlite:///{tmp_path}/echo.db") as opened:
        await opened.migrate("effects", ["create table effect (text text not null)"])
        yield opened
