"""
The agent as one object: the catalog, the checks and the HTTP door, started and stopped whole.

It binds to loopback unless told otherwise, and stops promptly: blocked queries are let go first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from discovery.agent.api_agent import AgentApi
from discovery.agent.api_catalog import CatalogApi
from discovery.agent.api_event import EventApi
from discovery.agent.api_kv import KvApi
from discovery.agent.api_register import RegisterApi
from discovery.agent.api_self import VERSION, SelfApi
from discovery.agent.api_session import SessionApi
from discovery.agent.api_txn import TxnApi
from discovery.agent.blocking import Blocking
from discovery.agent.catalog import Catalog
from discovery.agent.door import Door, Routes
from discovery.agent.events import Events
from discovery.agent.keeping import Keeping
from discovery.agent.kv import KeyValues
from discovery.agent.local import Local
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord
from discovery.agent.sessions import Sessions

# How often a session that nobody renews is looked for.
EXPIRE_SECONDS = 0.5
SERF_PROTOCOLS = {"current": "2", "max": "5", "min": "1"}


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
        self.sessions = Sessions(self.catalog, time.monotonic)
        self.values = KeyValues(self.catalog, self.sessions, time.monotonic)
        self.events = Events(self.catalog, name)
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
    async def serving(
        cls, *, host: str = "127.0.0.1", port: int = 0, state: Path | None = None
    ) -> AsyncIterator[Self]:
        """
        An agent that answers at `agent.url`; OSError when the port is taken.

        With a `state` directory the key-value store outlives the agent, and nothing else does.
        """
        listener = _listen(host, port)
        with contextlib.closing(listener):
            agent = cls(host, listener.getsockname()[1])
            keeping = None if state is None else Keeping(agent.values, state)
            if keeping is not None:
                keeping.load()
            door = Door(agent.routes())
            tending = [agent.local.reap(), agent.expire(), *([keeping.run()] if keeping else [])]
            tasks = [asyncio.create_task(one) for one in tending]
            try:
                await door.open(listener)
                yield agent
            finally:
                await agent.blocking.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await agent.local.checks.close()
                await door.close()
                if keeping is not None:
                    keeping.save()

    async def expire(self) -> None:
        """End the sessions whose time is over, for ever."""
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            self.sessions.expire()

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """What discovery.connect takes."""
        return f"consul://{self.address}"

    def routes(self) -> Routes:
        catalog, blocking, name = self.catalog, self.blocking, self.node.name
        return {
            **CatalogApi(catalog, blocking, f"{self.node.address}:8300", name).routes(),
            **RegisterApi(catalog).routes(),
            **AgentApi(self.local, blocking).routes(),
            **SelfApi(catalog, blocking, self.local, self.node, self.address).routes(),
            **KvApi(self.values, blocking).routes(),
            **SessionApi(self.sessions, blocking, name).routes(),
            **TxnApi(catalog, self.values).routes(),
            **EventApi(self.events, blocking).routes(),
        }


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
