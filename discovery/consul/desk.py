"""
Where a lease meets Consul: each answer of the agent becomes one outcome, by one table.

    register    200 done                      400 403 refused    else down
    confirm     200 done, or taken            404 lost           403 refused    else down
                a ttl check's heartbeat: "does not have associated TTL", unknown check: lost
    deregister  200 404 done, not ours: done  403 refused        else down
    unlisted    done once the servers' catalog has nobody with our id at our address
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from discovery.consul import schema
from discovery.consul.client import Client, Unreachable
from discovery.errors import DiscoveryError
from discovery.lease import Outcome, Told
from discovery.model import Instance


class ConsulDesk:
    """The agent, seen from one registration."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def register(self, instance: Instance) -> Told:
        return await self._command(
            self._client.commands.agent.service.register,
            instance.service,
            service_id=instance.id,
            address=instance.host,
            port=instance.port,
            tags=list(instance.tags),
            meta=dict(instance.meta),
            weights={"Passing": instance.weight, "Warning": instance.warning_weight},
            check=instance.check and schema.check_definition(instance, instance.check),
            replace_existing_checks=not await self._maintained(instance),
        )

    async def confirm(self, instance: Instance) -> Told:
        told = await self._whose(instance)
        check = instance.check
        if told.outcome is Outcome.DONE and check is not None and check.kind == "ttl":
            return await self._command(
                self._client.commands.agent.check.ttl_pass, schema.check_id(instance)
            )
        return told

    async def deregister(self, instance: Instance) -> Told:
        told = await self._whose(instance)
        if told.outcome in (Outcome.LOST, Outcome.TAKEN):
            return Told(Outcome.DONE)
        if told.outcome is not Outcome.DONE:
            return told
        return await self._command(
            self._client.commands.agent.service.deregister, instance.id, lost=Outcome.DONE
        )

    async def unlisted(self, instance: Instance, *, insist: bool) -> Told:
        path = "/v1/health/service/" + quote(instance.service, safe="")
        try:
            # Of the leader: a follower may be behind, and who asks it learns it a moment later.
            answer = await self._client.request("GET", path, schema.only(instance))
            if answer.status != 200:
                return Told(Outcome.DOWN, f"status {answer.status}: {answer.text}")
            nodes = schema.nodes_of(answer.body, instance)
        except (Unreachable, schema.Malformed, DiscoveryError) as error:
            return Told(Outcome.DOWN, str(error))
        if not nodes:
            return Told(Outcome.DONE)
        if insist:
            for node in nodes:
                await self._command(
                    self._client.commands.catalog.deregister, node, service_id=instance.id
                )
        return Told(Outcome.DOWN, f"on {', '.join(nodes)}")

    async def _maintained(self, instance: Instance) -> bool:
        """
        Whether an operator has taken this id out of service.

        A ghost with our id may have left checks of another kind, so they are replaced; but that
        would end a maintenance too, and a restart must not.
        """
        try:
            answer = await self._client.request(
                "GET", "/v1/agent/health/service/id/" + quote(instance.id, safe="")
            )
        except (Unreachable, DiscoveryError):
            return False
        return b'"_service_maintenance:' in answer.body

    async def _whose(self, instance: Instance) -> Told:
        """Whether the agent has our id, and at our address."""
        try:
            answer = await self._client.request(
                "GET", "/v1/agent/service/" + quote(instance.id, safe="")
            )
            if answer.status == 404:
                return Told(Outcome.LOST, answer.text)
            if answer.status != 200:
                refused = answer.status in (400, 403)
                why = f"status {answer.status}: {answer.text}"
                return Told(Outcome.REFUSED if refused else Outcome.DOWN, why)
            if schema.same_place(answer.body, instance):
                return Told(Outcome.DONE)
            return Told(Outcome.TAKEN, "it is registered with another address")
        except (Unreachable, schema.Malformed, DiscoveryError) as error:
            return Told(Outcome.DOWN, str(error))

    async def _command(
        self, command: Any, *args: Any, lost: Outcome = Outcome.LOST, **options: Any
    ) -> Told:
        from consul import exceptions  # noqa: PLC0415 - loaded with the first command

        try:
            done = await command(*args, **options)
        except (exceptions.BadRequest, exceptions.ACLPermissionDenied) as error:
            return Told(Outcome.REFUSED, str(error))
        except exceptions.ConsulException as error:
            return Told(lost if _says_unknown(str(error)) else Outcome.DOWN, str(error))
        except (Unreachable, DiscoveryError) as error:
            return Told(Outcome.DOWN, str(error))
        # py-consul answers False for 404, which a newer agent gives for an unknown check or id.
        return Told(Outcome.DONE if done else lost)


def _says_unknown(text: str) -> bool:
    """Consul up to 1.10 answers 500 to a heartbeat or deregistration of what it does not know."""
    return "does not have associated TTL" in text or "Unknown " in text or "unknown " in text
