"""
/v1/txn: up to 64 operations that all happen or none does, at one index.
"""

from __future__ import annotations

from typing import Any

from discovery.agent import go
from discovery.agent.blocking import answer, here
from discovery.agent.catalog import Catalog
from discovery.agent.door import Routes
from discovery.agent.go import Refused
from discovery.agent.kv import MAX_VALUE, KeyValues
from discovery.agent.txn import Operation, Transaction, parsed
from discovery.agent.wire import Request, Response

MAX_OPERATIONS = 64
MAX_BYTES = 512 * 1024


class TxnApi:
    def __init__(self, catalog: Catalog, values: KeyValues) -> None:
        self._catalog = catalog
        self._values = values

    def routes(self) -> Routes:
        return {"/v1/txn": {"PUT": self.run}}

    def run(self, request: Request) -> Response:
        operations = _operations(request)
        here(request)
        done = Transaction(self._catalog, self._values).run(operations)
        shown: dict[str, Any] = {"Results": done.results, "Errors": done.errors or None}
        response = answer(request, shown, status=409 if done.errors else 200)
        if not any(operation.writes for operation in operations):
            shown |= {"Index": 0, "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": ""}
            response.body = answer(request, shown).body
            response.headers |= {"X-Consul-Knownleader": "true", "X-Consul-Lastcontact": "0"}
        return response


def _operations(request: Request) -> list[Operation]:
    if len(request.body) > MAX_BYTES:
        raise Refused(
            413,
            f"Request body({len(request.body)} bytes) too large, max size: {MAX_BYTES} bytes."
            " See https://www.consul.io/docs/agent/options.html#txn_max_req_len.",
        )
    try:
        found = go.value(request.body)
        if not isinstance(found, list):
            kind = go.kind(found)
            raise go.Misread(f"json: cannot unmarshal {kind} into Go value of type api.TxnOps")
        operations = [parsed(one) for one in found]
    except go.Misread as error:
        raise Refused(400, f"Failed to parse body: {error}") from None
    if len(operations) > MAX_OPERATIONS:
        raise Refused(
            413,
            f"Transaction contains too many operations ({len(operations)} > {MAX_OPERATIONS})",
        )
    for operation in operations:
        if len(operation.value) > MAX_VALUE:
            size = f"({len(operation.value)} > {MAX_VALUE} bytes)"
            raise Refused(413, f'Value for key "{operation.key}" is too large {size}')
    return [operation for operation in operations if operation.kind]
