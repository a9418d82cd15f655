"""
A RabbitMQ node from unpacked packages: directory, ports, cookie and epmd of its own, on loopback.

Erlang's and RabbitMQ's own start scripts name directories of the whole machine; what they set is
set here instead, and the emulator is started itself: kill -9 of our child is that of the node.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import aio_pika
import pytest

from mesh.events.envelope import word
from scripts import parts
from scripts.stage.preflight import free_port
from tests.events.brokers import Program, listening, mortal

MEMORY = "256MiB"


def make(sort: str, directory: Path) -> RabbitServer:
    packages = parts.find("rabbitmq")
    if packages is None:
        pytest.skip("no RabbitMQ: scripts/parts rabbitmq fetches it")
    return RabbitServer(packages / "usr" / "lib", directory)


class RabbitServer:
    def __init__(self, library: Path, directory: Path) -> None:
        port, self._epmd_port = free_port(), free_port()
        erlang = library / "erlang"
        (binaries,) = erlang.glob("erts-*/bin")
        (home,) = (library / "rabbitmq" / "lib").glob("rabbitmq_server-*")
        self._directory, self._epmd_program = directory, binaries / "epmd"
        self._epmd: subprocess.Popen[bytes] | None = None
        (directory / "plugins").write_text("[].\n")
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\n"
            f"vm_memory_high_watermark.absolute = {MEMORY}\n"
            "disk_free_limit.absolute = 50MB\n"
            "max_message_size = 1048576\n"
        )
        cookie = directory / ".erlang.cookie"
        cookie.write_text(os.urandom(8).hex())
        cookie.chmod(0o400)
        self._environment = {
            "ROOTDIR": str(erlang),
            "BINDIR": str(binaries),
            "EMU": "beam",
            "PROGNAME": "erl",
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_LIBS": str(home / "plugins"),
            "RABBITMQ_HOME": str(home),
            "RABBITMQ_NODENAME": "mesh@localhost",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_PLUGINS_DIR": str(home / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        command = [str(binaries / "erlexec"), "-noinput", "-s", "rabbit", "boot"]
        command += ["-boot", str(erlang / "bin" / "start_sasl"), "+S", "2:2", "+P", "65536"]
        command += ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]
        command += ["-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"]
        command += ["-kernel", "prevent_overlapping_partitions", "false"]
        command += ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        self._program = Program(command, directory, port, self._environment)
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"

    async def start(self) -> None:
        if self._epmd is None:
            # Started by the node it would be nobody's child.
            place = ["-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(
                mortal([str(self._epmd_program), *place]),
                env={**os.environ, **self._environment},
            )
            await listening(self._epmd_port, lambda: self._epmd)
        await self._program.start()

    async def kill(self) -> None:
        """
        Kill the node once it has written which queues there are.

        3.10 writes the names of new quorum queues some seconds late.  Killed before, it makes the
        last ones anew, empty and without a leader: a group has to be older than that.
        """
        (quorum,) = (self._directory / "mnesia").glob("*/quorum/*")
        async with asyncio.timeout(20):
            while not all(
                each.name.encode() in (quorum / "names.dets").read_bytes()
                for each in quorum.iterdir()
                if each.is_dir()
            ):
                await asyncio.sleep(0.05)
        await self._program.kill()

    async def stop(self) -> None:
        await self._program.kill()
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            await asyncio.to_thread(epmd.wait)

    async def prepare(self, *topics: str) -> None:
        """The adapter makes exchanges and queues."""

    async def put(self, source: str, topic: str, payload: bytes) -> None:
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            exchange = await channel.get_exchange(f"events.{word(source)}")
            await exchange.publish(aio_pika.Message(payload), "0")

    async def dead(self, source: str, group: str, topic: str) -> tuple[bytes, str]:
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            queue = await channel.get_queue(f"events.{word(source)}.{word(group)}.dead")
            async with asyncio.timeout(10):
                while (message := await queue.get(fail=False)) is None:
                    await asyncio.sleep(0.05)
            await message.ack()
            (death,) = message.headers["x-death"]
            return message.body, f"{death['reason']} from {death['queue']}"
