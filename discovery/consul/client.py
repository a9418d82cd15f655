"""
One aiohttp session to one Consul agent, and py-consul's commands on top of it.

py-consul brings its own session, whose timeouts, TLS arguments and token rules do not fit ours
(its environment token beats an explicit one, 300 s cut blocking queries, its connector warns of
deprecation); so its commands run on our session through its own seam, `http_connect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yarl

from discovery.consul.settings import Settings

CONNECT_SECONDS = 2.0
COMMAND_SECONDS = 5.0
MAX_BODY = 64 * 1024 * 1024


class Unreachable(Exception):
    """No answer, or none that is HTTP; the text says what happened instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body[:300].decode(errors="replace").strip()


class Client:
    """Made in a running loop, closed by `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.current_token()  # a bad token file is told here, not at the first request
        tls = settings.tls()
        connector: aiohttp.BaseConnector
        # No limit: each watch holds one connection for as long as it blocks.
        if settings.socket:
            connector = aiohttp.UnixConnector(settings.socket, limit=0)
        elif tls is not None:
            connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        else:
            connector = aiohttp.TCPConnector(limit=0)
        auth = (
            aiohttp.BasicAuth(settings.username, settings.password) if settings.username else None
        )
        self._session = aiohttp.ClientSession(connector=connector, auth=auth)
        self._commands: Any = None

    async def close(self) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]] = (),
        *,
        body: str | bytes | None = None,
        seconds: float = COMMAND_SECONDS,
        once: bool = False,
    ) -> Answer:
        """
        One request, answered whole within `seconds` or Unreachable.

        It is sent again if the connection was closed while it waited, unless `once`.
        """
        settings = self.settings
        query = list(params)
        if settings.datacenter:
            query.append(("dc", settings.datacenter))
        if settings.namespace:
            query.append(("ns", settings.namespace))
        # Encoded already, so that ids with spaces or slashes arrive as they are.
        url = settings.origin + path + ("?" + urlencode(query) if query else "")
        return await self.send(method, url, body, seconds, once=once)

    async def send(
        self,
        method: str,
        url: str,
        body: str | bytes | None,
        seconds: float,
        *,
        once: bool = False,
    ) -> Answer:
        """As `request`, to a URL that is whole and encoded already."""
        token = self.settings.current_token()
        options: dict[str, Any] = {}
        if self.settings.server_name:
            options["server_hostname"] = self.settings.server_name
        try:
            async with self._session.request(
                method,
                _encoded(url),
                data=body,
                headers={"X-Consul-Token": token} if token else None,
                timeout=aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS),
                allow_redirects=False,
                middlewares=(_once,) if once else (),
                **options,
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except TimeoutError as error:
            raise Unreachable(f"no answer within {seconds:.1f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    @property
    def commands(self) -> Any:
        """py-consul's API over this session; imported when first used, watchers never need it."""
        if self._commands is None:
            self._commands = _commands(self)
        return self._commands


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """
    Takes from aiohttp the error that makes it send a request again.

    A blocking query that was cut off carries an index of the agent that is gone: sent to the next
    one, it would wait there for as long as that index is ahead.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error


def _encoded(url: str) -> yarl.URL:
    return yarl.URL(url, encoded=True)


def _commands(client: Client) -> Any:
    from consul import base  # noqa: PLC0415 - 6 MB that only registrations need

    class OverOurs(base.HTTPClient):  # type: ignore[misc]
        """py-consul's HTTP seam, answered by our session."""

        def __init__(self) -> None:
            super().__init__()
            self.base_uri = client.settings.origin

        async def _send(
            self, method: str, callback: Callable[[Any], Any], path: str, params: Any, data: Any
        ) -> Any:
            answer = await client.send(method, self.uri(path, params), data, COMMAND_SECONDS)
            return callback(base.Response(answer.status, answer.headers, answer.body.decode()))

        def get(
            self, callback: Any, path: str, params: Any = None, headers: Any = None, **_: Any
        ) -> Any:
            return self._send("GET", callback, path, params, None)

        def put(
            self, callback: Any, path: str, params: Any = None, data: Any = "", headers: Any = None
        ) -> Any:
            return self._send("PUT", callback, path, params, data)

        def post(
            self, callback: Any, path: str, params: Any = None, data: Any = "", headers: Any = None
        ) -> Any:
            return self._send("POST", callback, path, params, data)

        def delete(
            self, callback: Any, path: str, params: Any = None, data: Any = "", headers: Any = None
        ) -> Any:
            return self._send("DELETE", callback, path, params, data)

        async def close(self) -> None:
            """The session is the client's own."""

    class Commands(base.Consul):  # type: ignore[misc]
        def http_connect(self, *_: Any, **__: Any) -> OverOurs:
            return OverOurs()

    # Arguments given, so that it reads no variable; the token header is ours.
    return Commands(host="consul", port=8500, scheme="http", verify=True)
