"""The Auditor of the contract: one audit a call, and a bounded number of them at once."""

from __future__ import annotations

import asyncio
from typing import Any

from proxyless.audit.v1 import AuditorServicer as Servicer
from proxyless.audit.v1 import AuditRequest, Report

from services.audit import translating
from services.audit.auditing import audit
from services.audit.reading import Shop, read

# An audit reads all there is: more than this many at once wait for each other.
AT_ONCE = 2


class AuditorServicer(Servicer):
    """Audits a shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def Audit(self, request: AuditRequest, context: Any) -> Report:
        async with self._gate:
            return translating.report(audit(await read(self._shop, dict(request.imported))))
