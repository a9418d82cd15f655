"""
The agent as one object: the catalog, the checks and the HTTP door, started and stopped whole.

It binds to loopback unless told otherwise, and stops promptly: blocked queries are let go first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

from aiohttp import web

from discovery.agent.api_agent import VERSION, AgentApi
from discovery.agent.api_catalog import CatalogApi
from discovery.agent.api_kv import KvApi
from discovery.agent.blocking import Blocking
from discovery.agent.catalog import Catalog
from discovery.agent.definition import Refused
from discovery.agent.kv import KeyValues
from discovery.agent.local import Local
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord

LOG = logging.getLogger(__name__)

STOP_SECONDS = 1.0
SERF_PROTOCOLS = {"current": "2", "max": "5", "min": "1"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Agent:
    """A running agent; made by `serving`."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        name = socket.gethostname()
        self.node = NodeRecord(
            name,
            "127.0.0.1",
            str(uuid.uuid4()),
            tagged_addresses=dict.fromkeys(("lan", "lan_ipv4", "wan", "wan_ipv4"), "127.0.0.1"),
            meta={"consul-network-segment": ""},
        )
        self.catalog = Catalog()
        self.local = Local(self.catalog, name)
        self.blocking = Blocking(self.catalog)
        self.values = KeyValues(self.catalog)
        self.catalog.put_node(self.node)
        self.catalog.put_check(
            CheckRecord(
                name,
                "serfHealth",
                "Serf Health Status",
                "passing",
                output="Agent alive and reachable",
            )
        )
        # A server announces itself, so that ["consul"] is what an empty catalog looks like.
        itself = {"version": VERSION, "raft_version": "3", "non_voter": "false"}
        itself |= {f"serf_protocol_{which}": at for which, at in SERF_PROTOCOLS.items()}
        self.catalog.put_service(ServiceRecord(name, "consul", "consul", port=8300, meta=itself))

    @classmethod
    @asynccontextmanager
    async def serving(cls, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Self]:
        """An agent that answers at `agent.url`; OSError when the port is taken."""
        listener = _listen(host, port)
        agent = cls(host, listener.getsockname()[1])
        runner = web.AppRunner(
            agent.application(),
            access_log=None,
            shutdown_timeout=STOP_SECONDS,
            keepalive_timeout=75,
        )
        reaper = asyncio.create_task(agent.local.reap(), name="reaper")
        try:
            await runner.setup()
            await web.SockSite(runner, listener, backlog=1024).start()
            yield agent
        finally:
            agent.blocking.stop()
            reaper.cancel()
            await asyncio.gather(reaper, return_exceptions=True)
            await agent.local.checks.close()
            await runner.cleanup()
            listener.close()

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """What discovery.connect takes."""
        return f"consul://{self.address}"

    def application(self) -> web.Application:
        application = web.Application(middlewares=[_refusals], client_max_size=1024 * 1024)
        leader = f"{self.node.address}:8300"
        application.add_routes(CatalogApi(self.catalog, self.blocking, leader).routes())
        application.add_routes(AgentApi(self.local, self.node, self.port).routes())
        application.add_routes(KvApi(self.values, self.blocking).routes())
        application.router.add_get("/", _hello)
        return application


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(listener.close)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        undo.pop_all()
    return listener


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text="Consul Agent (embedded, for development)\n")


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A refusal is answered with Consul's status and words, and unknown paths like Go's mux."""
    try:
        return await handler(request)
    except Refused as refused:
        return web.Response(status=refused.status, text=refused.text)
    except web.HTTPNotFound:
        return web.Response(status=404)
    except web.HTTPMethodNotAllowed as error:
        return web.Response(
            status=405,
            text=f"method {request.method} not allowed",
            headers={"Allow": ",".join(sorted(error.allowed_methods))},
        )
