"""Where a PostgreSQL database is: how to reach it, and how to name it without its password."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import asyncpg

from mesh.store.postgres.failures import OUTSIDE, translation

# Making a connection takes no longer, in seconds; nor does a statement.
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30.0

_SETTINGS = {
    "application_name": "proxyless",
    # A process that fell asleep in its transaction keeps the others waiting for this long.
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}


class Address:
    """postgresql://[user[:password]@][host[:port]]/database[?host=/directory/of/a/socket]"""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.name = f"{parts.scheme}://{host}{parts.path}"

    async def connect(self, **settings: str) -> Any:
        """A connection; raises what `failures` makes of whatever prevents it."""
        try:
            return await asyncpg.connect(
                self._url,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                # Statements are kept by Link; the ones asyncpg would keep never are.
                statement_cache_size=0,
                server_settings={**_SETTINGS, **settings},
            )
        except (*OUTSIDE, ValueError) as error:
            raise translation(self.name, error) from error
