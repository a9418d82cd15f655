"""Where a PostgreSQL database is: how to reach it, and how to name it without its password."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg

from mesh.store.postgres.failures import translation

# Making a connection takes no longer, in seconds.
CONNECT_SECONDS = 5

_SETTINGS = {
    "bytea_output": "hex",
    # A process that fell asleep in its transaction keeps the others waiting for this long.
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}


class Address:
    """postgresql://[user[:password]@][host[:port]]/database[?host=/directory/of/a/socket]"""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        login, _, host = parts.netloc.rpartition("@")
        self._password = login.partition(":")[2]
        self.name = f"{parts.scheme}://{host}{parts.path}"

    async def connect(self, **settings: str) -> psycopg.AsyncConnection:
        """A connection; raises what `failures` makes of whatever prevents it."""
        options = (f"-c {name}={value}" for name, value in {**_SETTINGS, **settings}.items())
        try:
            return await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                application_name="proxyless",
                client_encoding="utf8",
                connect_timeout=CONNECT_SECONDS,
                options=" ".join(options),
            )
        except (psycopg.Error, OSError) as error:
            failed = translation(self.name, error)
        # Not from the error: libpq quotes what it can't read, be it the password.
        raise type(failed)(self.name, self._unsaid(failed.cause))

    def _unsaid(self, text: str) -> str:
        text = text.replace(self._url, self.name)
        return text.replace(self._password, "...") if self._password else text
