"""nats-server with JetStream in files, of at most 128 MB."""

from __future__ import annotations

from pathlib import Path

import nats
import pytest

from mesh.events.envelope import word
from scripts import parts
from scripts.stage.preflight import free_port
from tests.events.brokers import Program


def make(sort: str, directory: Path) -> NatsServer:
    program = parts.find("nats-server")
    if program is None:
        pytest.skip("no nats-server: scripts/parts nats-server fetches it")
    return NatsServer(program, directory)


class NatsServer:
    def __init__(self, program: Path, directory: Path) -> None:
        port = free_port()
        self._settings = directory / "nats.conf"
        self.allow(1024 * 1024)
        place = ["-c", str(self._settings)]
        place += ["-a", "127.0.0.1", "-p", str(port), "-sd", str(directory / "data")]
        bounds = {"GOMEMLIMIT": "128MiB", "GOMAXPROCS": "1"}
        self._program = Program([str(program), "-js", *place], directory, port, bounds)
        self.url = f"nats://127.0.0.1:{port}"
        self.start = self._program.start
        self.kill = self.stop = self._program.kill

    def allow(self, size: int) -> None:
        """Have it take messages of at most so many bytes, from its next start on."""
        self._settings.write_text(f"max_payload: {size}\n")

    async def prepare(self, *topics: str) -> None:
        """The adapter makes streams."""

    async def put(self, source: str, topic: str, payload: bytes) -> None:
        async with await nats.connect(self.url) as connection:
            await connection.jetstream().publish(f"events.{word(source)}.0", payload)

    async def dead(self, source: str, group: str, topic: str) -> tuple[bytes, str]:
        async with await nats.connect(self.url) as connection:
            reader = await connection.jetstream().subscribe(
                f"dead.{word(source)}.{word(group)}", ordered_consumer=True
            )
            message = await reader.next_msg(timeout=10)
            return message.data, message.headers["cause"]
