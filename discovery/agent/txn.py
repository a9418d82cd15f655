"""
Transactions: operations on keys, nodes, services and checks, done in order at one index.

    done = Transaction(catalog, values).run([parsed({"KV": {"Verb": "set", "Key": "a"}})])

Every operation is tried, so that all that is wrong is told; if any failed, nothing has happened.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from discovery.agent import api_kv, entries, go, records
from discovery.agent.catalog import Catalog
from discovery.agent.entries import check_of, node_of, service_of
from discovery.agent.go import Misread, Refused
from discovery.agent.kv import Entry, KeyValues

KINDS = ("KV", "Node", "Service", "Check")
_READING = {
    "KV": ("get", "get-tree", "check-session", "check-index", "check-not-exists"),
    "Node": ("get",),
    "Service": ("get",),
    "Check": ("get",),
}
_WRITING = {
    "KV": ("set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"),
}
_ENTRY = {
    "Node": (entries.NODE, "api.Node"),
    "Service": (entries.SERVICE, "api.AgentService"),
    "Check": (entries.CHECK, "api.HealthCheck"),
}
_KV = {
    "verb": ("verb", "string"),
    "key": ("key", "string"),
    "value": ("", "any"),
    "flags": ("flags", "uint64"),
    "index": ("index", "uint64"),
    "session": ("session", "string"),
    "namespace": ("", "string"),
}


@dataclass(slots=True)
class Operation:
    """One of the list; `asked` is the node, service or check of those kinds."""

    kind: str = ""
    verb: str = ""
    key: str = ""
    value: bytes = b""
    flags: int = 0
    index: int = 0
    session: str = ""
    node: str = ""
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        if self.kind == "KV":
            return self.verb in _WRITING["KV"]
        return self.verb not in _READING.get(self.kind, ())


@dataclass(slots=True)
class Done:
    results: list[dict[str, Any]] | None
    errors: list[dict[str, Any]]


class Failed(Exception):
    """This operation cannot be done; the text says why."""


def parsed(one: Any) -> Operation:
    """An element of the list; raises Misread."""
    if not isinstance(one, dict):
        raise Misread(f"json: cannot unmarshal {go.kind(one)} into Go value of type api.TxnOp")
    operation = Operation()
    for key, asked in one.items():
        kind = next((kind for kind in KINDS if kind.lower() == key.lower()), None)
        if kind is None:
            raise Misread(f'json: unknown field "{key}"')
        if asked is None:
            continue
        go.check(asked, f"api.{kind}TxnOp", f"TxnOp.{kind}")
        operation = _key_value(asked) if kind == "KV" else _of_catalog(kind, asked)
    return operation


def _key_value(asked: dict[str, Any]) -> Operation:
    found: dict[str, Any] = {}
    for key, one in asked.items():
        known = _KV.get(key.lower())
        if known is None:
            raise Misread(f'json: unknown field "{key}"')
        if one is None:
            continue
        if key.lower() == "value":
            found["value"] = _bytes(one)
            continue
        go.check(one, known[1], f"KVTxnOp.KV.{key}")
        if known[0]:
            found[known[0]] = one
    return Operation("KV", **found)


def _bytes(one: Any) -> bytes:
    if not isinstance(one, str):
        kind = go.kind(one)
        raise Misread(
            f"json: cannot unmarshal {kind} into Go struct field KVTxnOp.KV.Value of type []uint8"
        )
    try:
        return base64.b64decode(one, validate=True)
    except (binascii.Error, ValueError):
        signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
        at = next((at for at, sign in enumerate(one) if sign not in signs), len(one))
        raise Misread(f"illegal base64 data at input byte {at}") from None


def _of_catalog(kind: str, asked: dict[str, Any]) -> Operation:
    table, type_ = _ENTRY[kind]
    around = {"verb": ("verb", f"api.{kind}Op"), kind.lower(): (kind, type_)}
    if kind == "Service":
        around["node"] = ("node", "string")
    found = go.read(asked, around, owner=f"{kind}TxnOp.{kind}", strict=True)
    owner = f"{type_.removeprefix('api.')}.{kind}.{kind}"
    inner = go.read(found.get(kind, {}), table, owner=owner, strict=True)
    node = found.get("node", "") if kind == "Service" else inner.get("Node", "")
    index = inner.get("ModifyIndex", 0)
    return Operation(kind, found.get("verb", ""), index=index, node=node, asked=inner)


class Transaction:
    """Runs once; what it finds is what is there when it runs."""

    def __init__(self, catalog: Catalog, values: KeyValues) -> None:
        self._catalog = catalog
        self._values = values

    def run(self, operations: list[Operation]) -> Done:
        refused = self._errors(operations, self._vetted)
        if refused:
            return Done(None, refused)
        before, values = self._catalog.copy(), self._values.copy()
        results: list[dict[str, Any]] = []
        with self._catalog.batch() as undo:
            errors = self._errors(operations, lambda one: results.extend(self._done(one)))
            if errors:
                self._catalog.restore(before)
                self._values.restore(values)
                undo()
        return Done(None if errors else results, errors)

    def _errors(self, operations: list[Operation], act: Any) -> list[dict[str, Any]]:
        errors = []
        for number, operation in enumerate(operations):
            try:
                act(operation)
            except Failed as failed:
                errors.append({"OpIndex": number, "What": str(failed)})
            except Refused as refused:
                errors.append({"OpIndex": number, "What": refused.text})
        return errors

    def _vetted(self, one: Operation) -> None:
        """What is wrong whatever is stored is told before anything is done."""
        if one.kind == "KV":
            if not one.key and one.verb != "delete-tree":
                raise Failed("Must provide key")
            if one.verb == "lock" and self._values.delayed(one.key):
                raise Failed(f'failed to lock key "{one.key}" due to lock delay')
        elif one.kind == "Node" and not one.node:
            raise Failed("Must provide node")
        elif one.kind == "Service" and one.writes and not one.asked.get("Service"):
            if one.asked.get("ID"):
                raise Failed("Must provide service name with ID")
            raise Failed("failed inserting service: object missing primary index")

    def _done(self, one: Operation) -> list[dict[str, Any]]:
        if one.kind == "KV":
            return [{"KV": shown} for shown in self._on_key(one)]
        act = {"Node": self._on_node, "Service": self._on_service, "Check": self._on_check}
        shown = act[one.kind](one)
        return [] if shown is None else [{one.kind: shown}]

    # keys

    def _on_key(self, one: Operation) -> list[dict[str, Any]]:
        key, values = one.key, self._values
        entry = values.get(key)[1]
        match one.verb:
            case "get":
                if entry is None:
                    raise Failed(f'key "{key}" doesn\'t exist')
                return [api_kv.shown(entry)]
            case "get-tree":
                return [api_kv.shown(found) for found in values.below(key)[1]]
            case "check-session" | "check-index":
                return [self._checked(one, entry)]
            case "check-not-exists":
                if entry is not None:
                    raise Failed(f'key "{key}" exists')
                return []
            case "delete":
                values.delete(key)
                return []
            case "delete-tree":
                values.delete_below(key)
                return []
            case "delete-cas":
                if not values.delete(key, compared=one.index):
                    raise Failed(f'failed to delete key "{key}", index is stale')
                return []
            case "set":
                values.put(key, one.value, one.flags)
            case "cas":
                if not values.put(key, one.value, one.flags, compared=one.index):
                    raise Failed(f'failed to set key "{key}", index is stale')
            case "lock":
                if not values.lock(key, one.value, one.flags, one.session):
                    raise Failed(f'failed to lock key "{key}", lock is already held')
            case "unlock":
                if not values.unlock(key, one.value, one.flags, one.session):
                    raise Failed(
                        f'failed to unlock key "{key}", lock isn\'t held,'
                        " or is held by another session"
                    )
            case _:
                raise Failed(f'unknown KV verb "{one.verb}"')
        written = values.get(key)[1]
        assert written is not None
        return [api_kv.shown(written, value=False)]

    def _checked(self, one: Operation, entry: Entry | None) -> dict[str, Any]:
        what = one.verb.removeprefix("check-")
        if entry is None:
            raise Failed(f'failed to check {what}, key "{one.key}" doesn\'t exist')
        if what == "session" and entry.session != one.session:
            raise Failed(
                f'failed session check for key "{one.key}",'
                f' current session "{entry.session}" != "{one.session}"'
            )
        if what == "index" and entry.modified != one.index:
            raise Failed(
                f'failed index check for key "{one.key}",'
                f" current modify index {entry.modified} != {one.index}"
            )
        return api_kv.shown(entry, value=False)

    # the catalog

    def _on_node(self, one: Operation) -> dict[str, Any] | None:
        catalog, what = self._catalog, f'node "{one.node}"'
        known = catalog.nodes.get(one.node)
        found = None if known is None else known.modified
        if self._verb(one, what, found):
            catalog.put_node(node_of(one.asked, known))
        elif one.verb != "get":
            catalog.remove_node(one.node)
            return None
        return records.node(catalog.nodes[one.node])

    def _on_service(self, one: Operation) -> dict[str, Any] | None:
        catalog, id_ = self._catalog, str(one.asked.get("ID") or one.asked.get("Service") or "")
        known = catalog.services.get((one.node, id_))
        found = None if known is None else known.modified
        if self._verb(one, f'service "{id_}" on node "{one.node}"', found):
            self._node_of(one)
            catalog.put_service(service_of(one.node, one.asked))
        elif one.verb != "get":
            catalog.remove_service(one.node, id_)
            return None
        record = catalog.services[one.node, id_]
        return records.health_service(record) | {"Tags": record.tags}

    def _on_check(self, one: Operation) -> dict[str, Any] | None:
        catalog, id_ = self._catalog, one.asked.get("CheckID", "")
        if one.verb != "get":
            id_ = id_ or one.asked.get("Name", "")
        known = catalog.checks.get((one.node, id_))
        found = None if known is None else known.modified
        if self._verb(one, f'check "{id_}" on node "{one.node}"', found):
            why = self._unfit(one, id_)
            if why and one.verb == "cas":
                return None  # as there: what was wrong is lost on the way
            if why:
                raise Failed(why)
            catalog.put_check(check_of(catalog, one.node, one.asked))
        elif one.verb != "get":
            catalog.remove_check(one.node, id_)
            return None
        record = catalog.checks[one.node, id_]
        return records.check(record) | {"ServiceTags": record.service_tags}

    def _unfit(self, one: Operation, id_: str) -> str:
        """Why a check cannot be put into the catalog."""
        if one.node not in self._catalog.nodes:
            return "Missing node registration"
        if not id_:
            return "failed inserting check: object missing primary index"
        of = one.asked.get("ServiceID")
        there = not of or (one.node, of) in self._catalog.services
        return "" if there else "Missing service registration"

    def _node_of(self, one: Operation) -> None:
        if one.node not in self._catalog.nodes:
            raise Failed("Missing node registration")

    def _verb(self, one: Operation, what: str, found: int | None) -> bool:
        """Whether to write; raises Failed where the verb's condition does not hold."""
        match one.verb:
            case "get":
                if found is None:
                    raise Failed(f"{what} doesn't exist")
                return False
            case "set":
                return True
            case "cas":
                if one.index != (found or 0):
                    raise Failed(f"failed to set {what}, index is stale")
                return True
            case "delete":
                return False
            case "delete-cas":
                if one.index != found:
                    raise Failed(f"failed to delete {what}, index is stale")
                return False
        raise Failed(f'unknown {one.kind} verb "{one.verb}"')
