"""
The last chapter: the audit finds nothing wrong at any time, and in the end nothing in flight.

What is conserved, and how it is compared, is said in services/audit.
"""

from __future__ import annotations

from scripts.audit import settle
from scripts.story.visit import Visit, expect
from services.audit.reading import Shop

SETTLE_SECONDS = 60.0
# Findings that are said; the rest is as wrong.
NAMED = 5


async def ledger(visit: Visit) -> str:
    shop = Shop(visit.orders, visit.payments, visit.inventory, visit.notifications)
    report = await settle(shop, visit.shelves, SETTLE_SECONDS)
    expect(not report.wrong, "; ".join(finding.text for finding in report.wrong[:NAMED]))
    left = "; ".join(finding.text for finding in report.in_flight[:NAMED])
    expect(not left, f"after {SETTLE_SECONDS:.0f} s: {left}")
    figures = report.figures
    return (
        f"{figures['orders']} orders, {figures['confirmed']} confirmed, {figures['captured']} paid"
        f" for them; {figures['events']} events and {figures['notifications']} notifications agree,"
        " and every piece of stock is accounted for"
    )
